//! What the new Dovecot's configuration needs for the move, filled in from ours.

use crate::config::Config;

/// The lines for a Dovecot 2.3; `seen_as`: the address that the new side sees us under.
#[must_use]
pub fn dovecot23(config: &Config, seen_as: &str) -> String {
    let port = config.new.target.endpoint.port;
    let sessions = config.limits.connections;
    format!(
        "\
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
# password everybody waits, up to 15 seconds.
login_trusted_networks = {seen_as}
# Sessions: as many as limits.connections of the proxy, and the mover's own.
service imap {{
  process_limit = {sessions}
}}
service pop3 {{
  process_limit = {sessions}
}}
# UIDLs of new mail. Any form will do that can't give one of the old side's UIDLs to another message.
pop3_uidl_format = %08Xu%08Xv
"
    )
}
