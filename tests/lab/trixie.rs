//! Dovecot 2.4: a Debian trixie in a folder, and the dialect in which that Dovecot is configured.
//!
//! `tests/run.sh` makes the folder where it can (root, debootstrap, a Debian mirror) and says loudly where it can't. Paths
//! given to that Dovecot are those inside its folder.

use super::server::{Dovecot, Format, Spec, for_a_move, is_root};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The folder with a Dovecot 2.4 in it, if there is one: `$MAILFERRY_TRIXIE`, or its place in the user's cache.
pub fn root() -> Option<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = || variable("XDG_CACHE_HOME").or_else(|| variable("HOME").map(|home| home.join(".cache")));
    let root = variable("MAILFERRY_TRIXIE").or_else(|| Some(cache()?.join("mailferry/trixie")))?;
    (is_root() && root.join("usr/sbin/dovecot").exists()).then_some(root)
}

/// Whether there is a Dovecot 2.4; says so for all to hear if there is none.
pub fn is_here() -> bool {
    let here = root().is_some();
    if !here {
        eprintln!(
            "\n#### NOT RUN: this test needs Dovecot 2.4, and there is none here. It lies in a Debian trixie in\n\
             #### $MAILFERRY_TRIXIE or ~/.cache/mailferry/trixie, is started as root, and tests/run.sh makes it.\n"
        );
    }
    here
}

/// A program inside the folder.
pub(super) fn command(root: &Path, program: &str) -> Command {
    let mut command = Command::new("chroot");
    command.arg(root).arg(program);
    command
}

/// The configuration of `server`, whose folder is `dir` for itself.
pub(super) fn config(server: &Dovecot, dir: &Path, password: &str) -> String {
    let dir = dir.display();
    let Spec { format, separator, trusted, own_uidls, bare, .. } = server.spec();
    let for_a_move = if *bare { String::new() } else { for_a_move(password) };
    let driver = match format {
        Format::Maildir => "maildir",
        Format::Mdbox => "mdbox",
        Format::Sdbox => "sdbox",
    };
    let mut text = format!(
        "dovecot_config_version = 2.4.1\ndovecot_storage_version = 2.4.1\n\
         base_dir = {dir}/run\nstate_dir = {dir}/state\nlog_path = {dir}/log/dovecot.log\n\
         protocols = imap pop3 lmtp\nlisten = 127.0.0.1\n\
         ssl = yes\nssl_server_cert_file = {dir}/tls.pem\nssl_server_key_file = {dir}/tls.key\n\
         auth_allow_cleartext = yes\nauth_mechanisms = plain login\nauth_username_format = %{{user|username|lower}}\n\
         mail_driver = {driver}\nmail_path = {dir}/mail/%{{user}}\n\
         mail_uid = mail\nmail_gid = mail\nfirst_valid_uid = 1\nfirst_valid_gid = 1\n\
         mail_max_userip_connections = 0\nmail_attachment_detection_options =\n{for_a_move}\
         passdb passwd-file {{\n  passwd_file_path = {dir}/users\n}}\n\
         userdb static {{\n  fields {{\n    home = {dir}/home/%{{user}}\n  }}\n}}\n\
         namespace inbox {{\n  inbox = yes\n  separator = {separator}\n"
    );
    for special in ["Sent", "Drafts", "Trash", "Junk"] {
        let _ = write!(text, "  mailbox {special} {{\n    special_use = \\{special}\n    auto = no\n  }}\n");
    }
    text.push_str("}\n");
    if *trusted && !bare {
        text.push_str("login_trusted_networks = 127.0.0.0/8\n");
    }
    if *own_uidls {
        text.push_str("pop3_uidl_format = %{guid}\n");
    }
    let login = "  restart_request_count = unlimited\n  process_min_avail = 1\n";
    text + &server.services(login)
}
