//! Calls the operator's command for a token: no shell, no input, hardly any environment, a deadline, a bound on what is read.

use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::{Child, Command};
use tokio::time::{Instant, timeout};
use zeroize::Zeroizing;

use super::Token;
use crate::config::TokenCommand;
use crate::net::imap::printable;

/// How long the command may take: it asks a service over the network.
const DEADLINE: Duration = Duration::from_secs(30);

/// Octets of what it prints: tokens have two thousand, or three.
const OUTPUT_MAX: usize = 16 * 1024;

/// Octets of its complaints that are looked at.
const COMPLAINT_MAX: usize = 4096;

/// Where it finds other programs. It has no other variable: what it needs, a script can set.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A token is not used in the last minute of its time: a login takes a while.
const SPARE: Duration = Duration::from_secs(60);

/// The longest time of a token that is believed.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The command can't be run.
    #[error("{program} can't be run: {source}")]
    Run {
        /// The program.
        program: String,
        /// What the system said.
        source: io::Error,
    },
    /// It went on for too long.
    #[error("{program} has not ended within {} s", DEADLINE.as_secs())]
    TooLong {
        /// The program.
        program: String,
    },
    /// It said that it failed.
    #[error("{program} failed ({status}): {complaint}")]
    Failed {
        /// The program.
        program: String,
        /// How it ended.
        status: ExitStatus,
        /// What it wrote to its standard error.
        complaint: String,
    },
    /// It printed something else.
    #[error(
        "{program} printed no token: wanted is one line of at most {OUTPUT_MAX} visible characters, and the seconds that it \
         lasts on a second one if they are known; {complaint}"
    )]
    NoToken {
        /// The program.
        program: String,
        /// What it wrote to its standard error.
        complaint: String,
    },
    /// The name of the user would be something else for the command.
    #[error("{program} would take the name {user} for an option")]
    Option {
        /// The program.
        program: String,
        /// The user.
        user: String,
    },
}

/// Calls it for `user`.
pub(super) async fn call(command: &TokenCommand, user: &str) -> Result<Token, TokenError> {
    let program = command.program.display().to_string();
    let Some(arguments) = command.arguments(user) else {
        return Err(TokenError::Option { program, user: user.to_owned() });
    };
    let mut child = Command::new(&command.program)
        .args(arguments)
        .env_clear()
        .env("PATH", PATH)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        // What it starts itself ends with it.
        .process_group(0)
        .spawn()
        .map_err(|source| TokenError::Run { program: program.clone(), source })?;
    let asked = Instant::now();
    let ended = timeout(DEADLINE, ended(&mut child)).await;
    if ended.is_err()
        && let Some(group) = child.id().and_then(|id| Pid::from_raw(id.try_into().unwrap_or_default()))
    {
        let _ = kill_process_group(group, Signal::KILL);
    }
    let Ok(ended) = ended else { return Err(TokenError::TooLong { program }) };
    let (output, complaint, status) = ended.map_err(|source| TokenError::Run { program: program.clone(), source })?;
    let complaint = shown(&complaint, &output);
    if !status.success() {
        return Err(TokenError::Failed { program, status, complaint });
    }
    read(&output, asked).ok_or(TokenError::NoToken { program, complaint })
}

type Ended = (Zeroizing<Vec<u8>>, Zeroizing<Vec<u8>>, ExitStatus);

async fn ended(child: &mut Child) -> io::Result<Ended> {
    let (output, complaint) = (child.stdout.take(), child.stderr.take());
    let (output, complaint, status) =
        tokio::join!(start_of(output, OUTPUT_MAX + 1), start_of(complaint, COMPLAINT_MAX), child.wait());
    Ok((output?, complaint?, status?))
}

/// At most the first `most` octets; the rest is read away, so that nobody waits for us.
async fn start_of(from: Option<impl AsyncRead + Unpin>, most: usize) -> io::Result<Zeroizing<Vec<u8>>> {
    // Room for all of it from the start: growing would leave the token behind in freed memory.
    let mut octets = Zeroizing::new(vec![0; most]);
    let mut held = 0;
    let mut away = Zeroizing::new([0; 512]);
    let Some(mut from) = from else { return Ok(Zeroizing::default()) };
    loop {
        let room = octets.get_mut(held..).unwrap_or_default();
        let read = if room.is_empty() {
            if from.read(away.as_mut_slice()).await? == 0 {
                break;
            }
            0
        } else {
            match from.read(room).await? {
                0 => break,
                read => read,
            }
        };
        held += read;
    }
    octets.truncate(held);
    Ok(octets)
}

/// What the command complained of, without what it printed.
fn shown(complaint: &[u8], output: &[u8]) -> String {
    let text = Zeroizing::new(String::from_utf8_lossy(complaint).into_owned());
    let printed = Zeroizing::new(String::from_utf8_lossy(output).into_owned());
    let mut hidden = Zeroizing::new(text.to_string());
    for word in printed.split_whitespace().filter(|word| word.len() > 3) {
        hidden = Zeroizing::new(hidden.replace(word, "…"));
    }
    let lines: Vec<&str> = hidden.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    if lines.is_empty() { "it said nothing".to_owned() } else { printable(lines.join("; ").as_bytes()) }
}

/// The token in what was printed: on the first line, with the seconds that it lasts on the second.
fn read(output: &[u8], asked: Instant) -> Option<Token> {
    let mut lines = output.trim_ascii_end().split(|&octet| octet == b'\n').map(<[u8]>::trim_ascii);
    let (token, seconds, None) = (lines.next()?, lines.next(), lines.next()) else { return None };
    let visible = token.iter().all(u8::is_ascii_graphic);
    if token.is_empty() || output.len() > OUTPUT_MAX || !visible {
        return None;
    }
    let until = match seconds {
        None => None,
        Some(seconds) => {
            let seconds = Duration::from_secs(std::str::from_utf8(seconds).ok()?.parse().ok()?).min(LONGEST);
            Some(asked + seconds.saturating_sub(SPARE.min(seconds / 10)))
        }
    };
    Some(Token { text: token.to_vec().into(), until })
}
