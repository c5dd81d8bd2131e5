//! The front as clients meet it, with a real Dovecot behind: from the greeting over the login to the end of the relay.
//! Nobody is enrolled, so nothing moves; [`held`], [`names`] and [`secrets`] need two servers.

mod big;
mod capabilities;
mod certificates;
mod clients;
mod ending;
mod held;
mod hostile;
mod life;
mod limits;
mod login;
mod names;
mod passthrough;
mod proxied;
mod refused;
mod relay;
pub(crate) mod secrets;
mod transcript;

use std::fs;
use std::time::Duration;

use base64::Engine as _;

use crate::lab::imap::quoted;
use crate::lab::process::wait_for;
use crate::lab::{Dovecot, Ferry, FerrySpec, Imap, Spec};

/// Far above what any of this takes on a busy machine.
const LONG: Duration = Duration::from_secs(60);

/// A Dovecot and a proxy before it. (The proxy is dropped first.)
struct Bench {
    ferry: Ferry,
    server: Dovecot,
}

impl Bench {
    fn start(users: &[&str]) -> Self {
        Self::with(quick(users), |_| {})
    }

    fn with(spec: Spec, change: impl FnOnce(&mut FerrySpec<'_>)) -> Self {
        let server = Dovecot::start(spec);
        let mut wanted = one_sided(&server);
        change(&mut wanted);
        let ferry = Ferry::start(wanted);
        Self { ferry, server }
    }

    /// Only clients outside of loopback may log in without TLS: there are none.
    fn without_cleartext(users: &[&str]) -> Self {
        let server = Dovecot::start(quick(users));
        let mut ferry = Ferry::prepare(one_sided(&server));
        let config = ferry.config_text();
        let strict = config.replace("allow_cleartext = [\"127.0.0.0/8\"]", "allow_cleartext = [\"192.0.2.0/24\"]");
        assert_ne!(config, strict);
        fs::write(ferry.config_path(), strict).unwrap();
        ferry.start_again();
        Self { ferry, server }
    }

    /// A client that has not logged in.
    fn client(&self) -> Imap {
        Imap::connect(self.ferry.imap())
    }

    /// A client that has logged in.
    fn session(&self, user: &str) -> Imap {
        let mut imap = self.client();
        imap.login(user, self.server.password(user));
        imap
    }

    /// A session without the proxy.
    fn direct(&self, user: &str) -> Imap {
        let mut imap = Imap::connect(self.server.imap_port());
        imap.login(user, self.server.password(user));
        imap
    }

    /// Logins of `user` that the server has seen, as it logged them.
    fn logins(&self, user: &str) -> Vec<String> {
        logins(&self.server, user)
    }
}

/// Everybody stays on `server`: nobody is enrolled, and where the new side should be nothing listens.
fn one_sided(server: &Dovecot) -> FerrySpec<'_> {
    let new_imap = Some("imap://127.0.0.1:9".to_owned());
    FerrySpec { enroll: "none", new_imap, ..FerrySpec::between(server, server) }
}

/// The usual server, but it makes nobody wait who mistypes a password, nor the address where they are.
fn quick(users: &[&str]) -> Spec {
    let no_penalty = "service anvil {\n  unix_listener anvil-auth-penalty {\n    mode = 0\n  }\n}\n";
    Spec { extra: format!("auth_failure_delay = 0\n{no_penalty}"), ..Spec::old(users) }
}

/// Logins of `user` that `server` has logged.
fn logins(server: &Dovecot, user: &str) -> Vec<String> {
    let user = format!("user=<{user}>");
    let login = |line: &&str| line.contains("imap-login: Info: Login:") && line.contains(&user);
    server.log().lines().filter(login).map(str::to_owned).collect()
}

/// A SASL PLAIN message in base64.
fn plain(authzid: &str, user: &str, password: &[u8]) -> String {
    base64(&[authzid.as_bytes(), b"\0", user.as_bytes(), b"\0", password].concat())
}

fn base64(message: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(message)
}

/// `LOGIN user password` with quoted strings.
fn login_command(user: &str, password: &str) -> String {
    format!("LOGIN {} {}", quoted(user), quoted(password))
}

/// The next response as text.
fn say(imap: &mut Imap) -> String {
    crate::lab::imap::lossy(&imap.response())
}

/// Waits for a line of the proxy's log.
fn wait_logged(ferry: &Ferry, words: &str) {
    wait_for(&format!("{words:?} in the log"), LONG, || ferry.log().contains(words).then_some(()));
}

/// A message of about `octets` whose every line is another.
fn message(octets: usize) -> Vec<u8> {
    let mut raw = b"From: a@example.net\r\nSubject: big\r\n\r\n".to_vec();
    let mut line = 0_u64;
    while raw.len() < octets {
        raw.extend_from_slice(
            format!("{line:020} {{12}} * OK ) a1 NO {:060x}\r\n", line.wrapping_mul(0x9e37_79b9)).as_bytes(),
        );
        line += 1;
    }
    raw
}
