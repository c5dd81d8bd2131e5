//! Looks over the new Dovecot's own configuration, as `doveconf -n` prints it: what would cost users mail or time, and can't
//! be seen from outside. 2.3 and 2.4 print in the same form, but for lists of words: 2.4 has them as blocks, too.

use crate::config::{Config, Endpoint, Security};

/// Lines and nesting that are read: far more than any configuration has.
const LINES_MAX: usize = 100_000;
const DEPTH_MAX: usize = 32;

/// Plugins that do work for each message that is saved, which nobody wants done for a copy.
const COSTLY_PLUGINS: [&str; 6] = ["quota", "imap_quota", "notify", "push_notification", "fts", "mail_log"];

/// One setting: the blocks that it stands in, its name and its value.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Setting {
    blocks: Vec<String>,
    name: String,
    value: String,
}

/// The settings of a configuration, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Doveconf(Vec<Setting>);

/// A text that `doveconf -n` did not print.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}: give what `doveconf -n` prints on the new host")]
pub struct NoDoveconf {
    line: usize,
    what: &'static str,
}

impl Doveconf {
    /// Reads what `doveconf -n` printed.
    ///
    /// # Errors
    /// [`NoDoveconf`] with the line.
    pub fn parse(text: &str) -> Result<Self, NoDoveconf> {
        let (mut settings, mut blocks) = (Vec::new(), Vec::new());
        for (number, line) in text.lines().enumerate() {
            let wrong = |what| NoDoveconf { line: number + 1, what };
            let line = line.trim();
            if number >= LINES_MAX {
                return Err(wrong("too long"));
            }
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if line == "}" {
                blocks.pop().ok_or_else(|| wrong("closes a block that was not opened"))?;
            } else if let Some((name, value)) = setting(line) {
                settings.push(Setting { blocks: blocks.clone(), name: name.to_owned(), value: value.to_owned() });
            } else if let Some(block) = line.strip_suffix('{') {
                if blocks.len() >= DEPTH_MAX {
                    return Err(wrong("too deep"));
                }
                blocks.push(block.trim().to_owned());
            } else {
                return Err(wrong("is neither a setting nor a block"));
            }
        }
        if !blocks.is_empty() {
            return Err(NoDoveconf { line: text.lines().count(), what: "a block is not closed" });
        }
        if settings.is_empty() { Err(NoDoveconf { line: 1, what: "nothing is set" }) } else { Ok(Self(settings)) }
    }

    /// The last value of a setting that stands directly in these blocks.
    fn value(&self, blocks: &[&str], name: &str) -> Option<&str> {
        let same = |setting: &&Setting| setting.name == name && setting.blocks == blocks;
        self.0.iter().rev().find(same).map(|setting| setting.value.as_str())
    }

    /// The words of a list that stands directly in these blocks, if it is there, with what it adds to or takes from `before`:
    /// `name = a b` is the whole list, and `name { a = yes }` changes one (2.4).
    fn list<'a>(&'a self, blocks: &[&str], name: &str, before: &[&'a str]) -> Option<Vec<&'a str>> {
        let mut list = None;
        for setting in &self.0 {
            if setting.name == name && setting.blocks == blocks {
                list = Some(setting.value.split([' ', ',']).filter(|word| !word.is_empty()).collect());
            } else if let Some((last, around)) = setting.blocks.split_last()
                && last == name
                && around == blocks
            {
                let words = list.get_or_insert_with(|| before.to_vec());
                let word = setting.name.trim_matches('"');
                words.retain(|known| *known != word);
                if setting.value == "yes" {
                    words.push(word);
                }
            }
        }
        list
    }

    /// A number of a service; without one, or with 0, what is there for all of them. None: it has no limit.
    fn limit(&self, service: &str, name: &str, usual: usize) -> Option<usize> {
        let number = |value: &str| match value {
            "unlimited" => None,
            value => value.parse::<usize>().ok(),
        };
        let all = || self.value(&[], &format!("default_{name}")).map_or(Some(usual), number);
        match self.value(&[service], name).map(number) {
            None | Some(Some(0)) => all(),
            Some(limit) => limit,
        }
    }

    /// What an operator should change or know; `seen_as`: the address that the new side sees us under.
    #[must_use]
    pub fn warnings(&self, config: &Config, seen_as: Option<&str>) -> Vec<String> {
        let mut found = Vec::new();
        for setting in self.0.iter().filter(|setting| setting.name == "mail_fsync" && setting.value == "never") {
            if !setting.blocks.iter().any(|block| block == "protocol doveadm") {
                let place = setting.blocks.last().map_or("at the top".to_owned(), |block| format!("in `{block}`"));
                found.push(format!(
                    "mail_fsync = never {place}: a host that loses power loses mail that clients and senders were told is \
                     safe; set it in `protocol doveadm` alone"
                ));
            }
        }
        self.plugins(&mut found);
        self.doveadm(config, &mut found);
        if let Some(address) = seen_as
            && !self.trusts(address)
        {
            found.push(format!(
                "login_trusted_networks does not hold {address}: this server takes all clients for one, and lets all of them \
                 wait up to 15 s after one of them has mistyped a password"
            ));
        }
        self.sessions(config, &mut found);
        found
    }

    /// Whether as many sessions as we take can be there.
    fn sessions(&self, config: &Config, found: &mut Vec<String>) {
        let wanted = config.limits.connections;
        for (service, what) in [("service imap", "IMAP"), ("service pop3", "POP3")] {
            // Where nothing is set these two have a limit of their own.
            let limit = self
                .value(&[service], "process_limit")
                .map_or(Some(1024), |_| self.limit(service, "process_limit", 100));
            if let Some(limit) = limit.filter(|limit| *limit < wanted) {
                found.push(format!(
                    "{service} {{ process_limit = {limit} }}: at most so many {what} sessions, and limits.connections here is \
                     {wanted}"
                ));
            }
        }
        let logins = [("service imap-login", Some(&config.new.imap)), ("service pop3-login", config.new.pop3.as_ref())];
        for (service, endpoint) in logins {
            if endpoint.is_none_or(|Endpoint { security, .. }| *security == Security::Clear) {
                continue;
            }
            let once = ["service_count", "restart_request_count"].map(|name| self.value(&[service], name));
            let once = once.into_iter().flatten().next().is_none_or(|count| count == "1");
            let each = if once { Some(1) } else { self.limit(service, "client_limit", 1000) };
            let all = self.limit(service, "process_limit", 100);
            if let (Some(each), Some(all)) = (each, all)
                && each.saturating_mul(all) < wanted
            {
                found.push(format!(
                    "{service}: {all} processes with {each} sessions each: over TLS (new.{}) there can't be more, and \
                     limits.connections here is {wanted}; set service_count = 0 in it (Dovecot 2.4: restart_request_count = \
                     unlimited)",
                    if service == "service imap-login" { "imap" } else { "pop3" }
                ));
            }
        }
    }

    fn plugins(&self, found: &mut Vec<String>) {
        let everywhere = self.list(&[], "mail_plugins", &[]).unwrap_or_default();
        let mut plugins = self.list(&["protocol doveadm"], "mail_plugins", &everywhere).unwrap_or(everywhere);
        plugins.retain(|name| COSTLY_PLUGINS.contains(name));
        if !plugins.is_empty() {
            found.push(format!(
                "mail_plugins holds {} for doveadm, too: each copied message would be counted, indexed or announced as if it \
                 had just come; set `mail_plugins` in `protocol doveadm` without them",
                plugins.join(", ")
            ));
        }
    }

    fn doveadm(&self, config: &Config, found: &mut Vec<String>) {
        let commands = self.list(&[], "doveadm_allowed_commands", &[]).unwrap_or_default();
        if commands.is_empty() {
            found.push(
                "doveadm_allowed_commands is not set: whoever has doveadm's password may do anything; `dsync-server` is all \
                 that is needed"
                    .to_owned(),
            );
        } else if !commands.contains(&"dsync-server") {
            found.push(format!("doveadm_allowed_commands = {} does not allow dsync-server", commands.join(" ")));
        }
        if self.value(&[], "doveadm_password").is_none() {
            found.push("doveadm_password is not set: nobody can write to this server".to_owned());
        }
        let port = config.new.target.endpoint.port.to_string();
        let listens = self.0.iter().any(|setting| {
            let place = (setting.blocks.first().map(String::as_str), setting.blocks.get(1));
            let listener = place.1.is_some_and(|block| block.starts_with("inet_listener"));
            place.0 == Some("service doveadm") && listener && setting.name == "port" && setting.value == port
        });
        if !listens {
            found.push(format!("service doveadm has no inet_listener with port = {port} (new.target.url)"));
        }
    }

    fn trusts(&self, address: &str) -> bool {
        let networks = self.list(&[], "login_trusted_networks", &[]).unwrap_or_default();
        let Ok(address) = address.parse() else { return false };
        let mut networks = networks.into_iter().filter_map(|network| network.parse::<crate::config::Network>().ok());
        networks.any(|network| network.contains(address))
    }
}

/// Name and value, if a line is a setting. A name is one word; what a block is called may be more, and have a `=` in it, as a
/// value may end with a `{`.
fn setting(line: &str) -> Option<(&str, &str)> {
    let (name, value) = line.split_once('=')?;
    let (name, value) = (name.trim(), value.trim());
    (!name.contains(char::is_whitespace) || name.starts_with('"')).then_some((name, value))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn config() -> Config {
        crate::config::load(std::path::Path::new("tests/config/valid/clear-on-loopback.toml")).unwrap()
    }

    const GOOD: &str = "# 2.3.19.1 (9b53102964): /etc/dovecot/dovecot.conf
doveadm_allowed_commands = dsync-server
doveadm_password =  # hidden, use -P to show it
login_trusted_networks = 10.0.0.0/8 127.0.0.1
mail_plugins = quota
namespace inbox {
  inbox = yes
  mailbox Sent {
    special_use = \\Sent
  }
}
service doveadm {
  inet_listener mailferry {
    port = 24245
  }
}
service imap {
  process_limit = 20000
}
service pop3 {
  process_limit = 20000
}
protocol doveadm {
  mail_fsync = never
  mail_plugins =
}
";

    const GOOD_24: &str = "# 2.4.1-4 (7d8c0e5759): /etc/dovecot/dovecot.conf
dovecot_config_version = 2.4.1
doveadm_allowed_commands {
  dsync-server = yes
}
doveadm_password = # hidden, use -P to show it
dovecot_storage_version = 2.4.1
login_greeting = this ends with a {
login_trusted_networks {
  fe80::/10 = yes
  10.0.0.0/8 = yes
}
mail_plugins {
  quota = yes
  fts = yes
}
namespace inbox {
  inbox = yes
  mailbox \"a = b\" {
    special_use = \"\\\\Sent\"
  }
}
service doveadm {
  inet_listener mailferry {
    port = 24245
  }
}
service imap {
  process_limit = unlimited
}
service pop3 {
  process_limit = 20000
}
protocol doveadm {
  namespace inbox {
    mail_fsync = never
  }
  mail_plugins {
    quota = no
    acl = yes
    fts = no
  }
}
";

    fn warnings(text: &str) -> Vec<String> {
        Doveconf::parse(text).unwrap().warnings(&config(), Some("10.1.2.3"))
    }

    #[test]
    fn a_configuration_as_it_should_be_is_left_alone() {
        assert_eq!(warnings(GOOD), Vec::<String>::new());
        assert_eq!(warnings(GOOD_24), Vec::<String>::new());
    }

    #[test]
    fn lists_of_24_are_added_to_and_taken_from() {
        for (from, to, said) in [
            ("    fts = no\n", "", "mail_plugins holds fts for doveadm"),
            ("    acl = yes\n", "    push_notification = yes\n", "mail_plugins holds push_notification for doveadm"),
            ("  dsync-server = yes\n", "  who = yes\n", "doveadm_allowed_commands = who does not allow dsync-server"),
            ("  dsync-server = yes\n", "  dsync-server = no\n", "doveadm_allowed_commands is not set"),
            ("  10.0.0.0/8 = yes\n", "  10.0.0.0/8 = no\n", "login_trusted_networks does not hold 10.1.2.3"),
            (
                "protocol doveadm {\n",
                "protocol imap {\n  mail_fsync = never\n}\nprotocol doveadm {\n",
                "in `protocol imap`",
            ),
        ] {
            assert!(GOOD_24.contains(from), "{from}");
            let found = warnings(&GOOD_24.replacen(from, to, 1));
            assert!(found.len() == 1 && found.iter().all(|line| line.contains(said)), "{said}: {found:?}");
        }
        // The whole list at once.
        let without = GOOD_24.replace("    quota = no\n    acl = yes\n    fts = no\n  }\n", "  }\n  mail_plugins =\n");
        assert_eq!(warnings(&without), Vec::<String>::new());
    }

    /// A session inside TLS keeps the process that it logged in with.
    #[test]
    fn login_processes_that_are_too_few_for_sessions_over_tls_are_named() {
        let mut config = config();
        config.new.imap.security = Security::Tls;
        let warnings = |text: &str| Doveconf::parse(text).unwrap().warnings(&config, Some("10.1.2.3"));
        let login = |settings: &str| format!("{GOOD}service imap-login {{\n  {settings}\n}}\n");
        for few in
            ["service_count = 1", "process_limit = 9999", "client_limit = 9999", "vsz_limit = 1 G", "process_limit = 0"]
        {
            let found = warnings(&login(few));
            assert!(
                found.len() == 1 && found.iter().all(|line| line.contains("service imap-login: ")),
                "{few}: {found:?}"
            );
        }
        assert!(warnings(GOOD).iter().all(|line| line.contains("100 processes with 1 sessions each")));
        for many in [
            "service_count = 0",
            "restart_request_count = unlimited",
            "process_limit = 10000",
            "process_limit = unlimited",
        ] {
            assert_eq!(warnings(&login(many)), Vec::<String>::new(), "{many}");
        }
        assert_eq!(warnings(&format!("default_process_limit = 10000\n{GOOD}")), Vec::<String>::new());
    }

    #[test]
    fn what_costs_mail_or_time_is_named() {
        for (from, to, said) in [
            ("mail_plugins = quota\n", "mail_fsync = never\n", "mail_fsync = never at the top"),
            (
                "protocol doveadm {",
                "protocol lmtp {\n  mail_fsync = never\n}\nprotocol doveadm {",
                "in `protocol lmtp`",
            ),
            ("  mail_plugins =\n", "", "mail_plugins holds quota for doveadm"),
            ("doveadm_allowed_commands = dsync-server\n", "", "doveadm_allowed_commands is not set"),
            ("= dsync-server\n", "= sync\n", "does not allow dsync-server"),
            ("doveadm_password =  # hidden, use -P to show it\n", "", "doveadm_password is not set"),
            ("port = 24245", "port = 24246", "no inet_listener with port = 24245"),
            ("10.0.0.0/8", "10.0.0.0/16", "login_trusted_networks does not hold 10.1.2.3"),
            ("login_trusted_networks = 10.0.0.0/8 127.0.0.1\n", "", "login_trusted_networks does not hold"),
            (
                "service imap {\n  process_limit = 20000\n}\n",
                "",
                "process_limit = 1024 }: at most so many IMAP sessions",
            ),
        ] {
            assert!(GOOD.contains(from), "{from}");
            let found = warnings(&GOOD.replacen(from, to, 1));
            assert!(found.len() == 1 && found.iter().all(|line| line.contains(said)), "{said}: {found:?}");
        }
    }

    #[test]
    fn what_is_no_configuration_is_refused_with_its_line() {
        for (text, said) in [
            ("", "line 1: nothing is set"),
            ("a = b\n}\n", "line 2: closes a block"),
            ("a {\nb = c\n", "line 2: a block is not closed"),
            ("hello\n", "line 1: is neither"),
            (&"a {\n".repeat(40), "line 33: too deep"),
        ] {
            let error = Doveconf::parse(text).unwrap_err().to_string();
            assert!(error.starts_with(said), "{error}");
        }
    }
}
