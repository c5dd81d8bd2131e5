//! What the new Dovecot's configuration needs for the move, filled in from ours, in the words of its release.

use std::str::FromStr;

use crate::config::Config;

/// In which words a Dovecot is configured: 2.4 has given many settings other names, and starts with none of the old ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// 2.3.
    V23,
    /// 2.4.
    V24,
}

/// A release whose words we don't know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("2.3 and 2.4 are known")]
pub struct NoDialect;

impl FromStr for Dialect {
    type Err = NoDialect;

    fn from_str(text: &str) -> Result<Self, NoDialect> {
        match text {
            "2.3" => Ok(Self::V23),
            "2.4" => Ok(Self::V24),
            _ => Err(NoDialect),
        }
    }
}

/// The lines; `seen_as`: the address that the new side sees us under.
#[must_use]
pub fn lines(config: &Config, dialect: Dialect, seen_as: &str) -> String {
    let port = config.new.target.endpoint.port;
    let sessions = config.limits.connections;
    let (release, many_logins, uidl_format) = match dialect {
        Dialect::V23 => ("2.3", "service_count = 0", "%08Xu%08Xv"),
        Dialect::V24 => ("2.4", "restart_request_count = unlimited", "%{uid | hex(8)}%{uidvalidity | hex(8)}"),
    };
    format!(
        "\
# For Dovecot {release}.
# The mover writes through doveadm, and through dsync alone. The password is the content of new.target.password_file.
doveadm_password = PASSWORD
doveadm_allowed_commands = dsync-server
service doveadm {{
  inet_listener mailferry {{
    port = {port}
  }}
}}
# A copy is no delivery: no push, no index for searching, no quota. Without fsync it is many times faster; leave that line out
# where a new host that loses power within a minute after a switch must not lose the newest copies (the old side has them).
protocol doveadm {{
  mail_plugins =
  mail_fsync = never
}}
# The proxy sends each client's own address along, and this believes it. Without it all clients are one: after a mistyped
# password everybody waits, up to 15 seconds. If you trust others already, they belong into this line, too.
login_trusted_networks = {seen_as}
# Sessions: as many as limits.connections of the proxy, and the mover's own.
service imap {{
  process_limit = {sessions}
}}
service pop3 {{
  process_limit = {sessions}
}}
# A session over TLS keeps its login process, and there are 100 of them by default: here each takes many sessions.
service imap-login {{
  {many_logins}
}}
service pop3-login {{
  {many_logins}
}}
# UIDLs of new mail. Any form will do that can't give one of the old side's UIDLs to another message.
pop3_uidl_format = {uidl_format}
"
    )
}
