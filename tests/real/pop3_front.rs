//! The POP3 front as clients meet it, with a real Dovecot behind: from the greeting over the login to the end of the relay.
//! Nobody is enrolled, so nothing moves; [`moment`] needs two servers.

mod big;
pub(crate) mod clients;
mod ending;
mod heard;
mod hostile;
mod login;
mod moment;
mod refused;
mod transcript;

use std::time::Duration;

use base64::Engine as _;

use crate::lab::process::wait_for;
use crate::lab::{Dovecot, Ferry, FerrySpec, Imap, Pop3, Spec, deliver};

/// Far above what any of this takes on a busy machine.
const LONG: Duration = Duration::from_secs(60);

/// A Dovecot and a proxy before it. (The proxy is dropped first.)
struct Bench {
    ferry: Ferry,
    server: Dovecot,
}

impl Bench {
    fn start(users: &[&str]) -> Self {
        Self::with(quick(users), |_, _| {})
    }

    fn with(spec: Spec, change: impl FnOnce(&mut FerrySpec<'_>, &Dovecot)) -> Self {
        let server = Dovecot::start(spec);
        let mut wanted = one_sided(&server);
        change(&mut wanted, &server);
        let ferry = Ferry::start(wanted);
        Self { ferry, server }
    }

    /// A client that has not logged in.
    fn client(&self) -> Pop3 {
        Pop3::connect(self.ferry.pop3())
    }

    /// A client that has logged in.
    fn session(&self, user: &str) -> Pop3 {
        let mut pop3 = self.client();
        pop3.login(user, self.server.password(user));
        pop3
    }

    /// A session without the proxy.
    fn direct(&self, user: &str) -> Pop3 {
        let mut pop3 = Pop3::connect(self.server.pop3_port());
        pop3.login(user, self.server.password(user));
        pop3
    }

    /// Waits until the server counts so many sessions of `user`: it learns of them a moment after they have begun.
    fn wait_counted(&self, user: &str, sessions: usize) {
        let counted = || self.server.doveadm_ok(&["who", "-1", user]).matches("pop3").count() == sessions;
        wait_for(&format!("the server to count {sessions} sessions"), LONG, || counted().then_some(()));
    }

    /// Logins of `user` that the server has seen, as it logged them.
    fn logins(&self, user: &str) -> Vec<String> {
        logins(&self.server, user)
    }
}

/// Everybody stays on `server`: nobody is enrolled, and where the new side should be nothing listens.
fn one_sided(server: &Dovecot) -> FerrySpec<'_> {
    let new_imap = Some("imap://127.0.0.1:9".to_owned());
    let new_pop3 = Some("pop3://127.0.0.1:9".to_owned());
    FerrySpec { enroll: "none", new_imap, pop3: true, new_pop3, ..FerrySpec::between(server, server) }
}

/// The usual server, but it makes nobody wait who mistypes a password, nor the address where they are.
fn quick(users: &[&str]) -> Spec {
    let no_penalty = "service anvil {\n  unix_listener anvil-auth-penalty {\n    mode = 0\n  }\n}\n";
    Spec { extra: format!("auth_failure_delay = 0\n{no_penalty}"), ..Spec::old(users) }
}

/// POP3 logins of `user` that `server` has logged.
fn logins(server: &Dovecot, user: &str) -> Vec<String> {
    let user = format!("user=<{user}>");
    let login = |line: &&str| line.contains("pop3-login: Info: Login:") && line.contains(&user);
    server.log().lines().filter(login).map(str::to_owned).collect()
}

/// A SASL PLAIN message in base64.
fn plain(authzid: &str, user: &str, password: &[u8]) -> String {
    base64(&[authzid.as_bytes(), b"\0", user.as_bytes(), b"\0", password].concat())
}

fn base64(message: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(message)
}

/// A small message that shows its number.
fn numbered(number: usize) -> Vec<u8> {
    format!("From: a@example.net\r\nSubject: number {number}\r\n\r\n.dot {number}\r\n..\r\nend\r\n").into_bytes()
}

/// A message of about `octets` whose every line is another, every third with a dot in front.
fn large(octets: usize) -> Vec<u8> {
    let mut raw = b"From: a@example.net\r\nSubject: big\r\n\r\n".to_vec();
    let mut line = 0_u64;
    while raw.len() < octets {
        let dot = if line.is_multiple_of(3) { "." } else { "" };
        raw.extend_from_slice(
            format!("{dot}{line:020} -ERR +OK {:060x}\r\n", line.wrapping_mul(0x9e37_79b9)).as_bytes(),
        );
        line += 1;
    }
    raw
}
