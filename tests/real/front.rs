//! What clients meet: logging in, being relayed, and what happens to those who misbehave.
//!
//! Where nobody is moved there is no new side.

use std::time::Duration;

use crate::lab::{Dovecot, Ferry, FerrySpec, Imap, Spec};

mod hostile;
mod login;
mod relay;

/// Far above what any of this takes on a busy machine.
const LONG: Duration = Duration::from_secs(60);

/// A server, and a proxy before it that moves nobody.
struct Stage {
    server: Dovecot,
    ferry: Ferry,
}

impl Stage {
    fn start(users: &[&str]) -> Self {
        Self::with(Spec::old(users), &[])
    }

    fn with(spec: Spec, env: &[(&str, &str)]) -> Self {
        let server = Dovecot::start(spec);
        let spec = FerrySpec { enroll: "none", env: env.to_vec(), ..alone(&server) };
        let ferry = Ferry::start(spec);
        Self { server, ferry }
    }

    /// A session through the proxy.
    fn session(&self, user: &str) -> Imap {
        let mut imap = Imap::connect(self.ferry.imap());
        imap.login(user, self.server.password(user));
        imap
    }

    /// A session that goes past it.
    fn direct(&self, user: &str) -> Imap {
        let mut imap = Imap::connect(self.server.imap_port());
        imap.login(user, self.server.password(user));
        imap
    }
}

/// A proxy whose new side is never there.
fn alone(server: &Dovecot) -> FerrySpec<'_> {
    FerrySpec { auto: false, new_imap: Some("imap://127.0.0.1:1".to_owned()), ..FerrySpec::between(server, server) }
}

/// A server that lets nobody wait for another's, or one's own, wrong passwords.
fn without_penalties(users: &[&str]) -> Spec {
    let extra = "auth_failure_delay = 0\nservice anvil {\n  unix_listener anvil-auth-penalty {\n    mode = 0\n  }\n}\n";
    Spec { extra: extra.to_owned(), ..Spec::old(users) }
}

/// Responses as text.
fn text(responses: &[Vec<u8>]) -> Vec<String> {
    responses.iter().map(|response| crate::lab::imap::lossy(response)).collect()
}
