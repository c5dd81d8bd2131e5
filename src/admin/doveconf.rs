//! Looks over the new Dovecot's own configuration, as `doveconf -n` prints it: what would cost users mail or time, and can't
//! be seen from outside.

use crate::config::Config;

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
            } else if let Some(block) = line.strip_suffix('{') {
                if blocks.len() >= DEPTH_MAX {
                    return Err(wrong("too deep"));
                }
                blocks.push(block.trim().to_owned());
            } else if let Some((name, value)) = line.split_once('=') {
                let (name, value) = (name.trim().to_owned(), value.trim().to_owned());
                settings.push(Setting { blocks: blocks.clone(), name, value });
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

    /// What an operator should change or know; `seen_as`: the address that the new side sees us under.
    #[must_use]
    pub fn warnings(&self, config: &Config, seen_as: Option<&str>) -> Vec<String> {
        let mut found = Vec::new();
        for setting in self.0.iter().filter(|setting| setting.name == "mail_fsync" && setting.value == "never") {
            if setting.blocks != ["protocol doveadm"] {
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
        for (service, what) in [("service imap", "IMAP"), ("service pop3", "POP3")] {
            let limit = self.value(&[service], "process_limit").map_or(Ok(1024), str::parse::<usize>);
            if let Ok(limit) = limit
                && limit > 0
                && limit < config.limits.connections
            {
                found.push(format!(
                    "{service} {{ process_limit = {limit} }}: at most so many {what} sessions, and limits.connections here is \
                     {}",
                    config.limits.connections
                ));
            }
        }
        found
    }

    fn plugins(&self, found: &mut Vec<String>) {
        let in_doveadm = self.value(&["protocol doveadm"], "mail_plugins");
        let plugins = in_doveadm.or_else(|| self.value(&[], "mail_plugins")).unwrap_or_default();
        let costly: Vec<&str> = plugins.split_whitespace().filter(|name| COSTLY_PLUGINS.contains(name)).collect();
        if !costly.is_empty() {
            found.push(format!(
                "mail_plugins holds {} for doveadm, too: each copied message would be counted, indexed or announced as if it \
                 had just come; set `mail_plugins` in `protocol doveadm` without them",
                costly.join(", ")
            ));
        }
    }

    fn doveadm(&self, config: &Config, found: &mut Vec<String>) {
        match self.value(&[], "doveadm_allowed_commands") {
            None | Some("") => found.push(
                "doveadm_allowed_commands is not set: whoever has doveadm's password may do anything; `dsync-server` is all \
                 that is needed"
                    .to_owned(),
            ),
            Some(commands) if !commands.split([' ', ',']).any(|command| command == "dsync-server") => {
                found.push(format!("doveadm_allowed_commands = {commands} does not allow dsync-server"));
            }
            Some(_) => {}
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
        let networks = self.value(&[], "login_trusted_networks").unwrap_or_default();
        let Ok(address) = address.parse() else { return false };
        let networks = networks.split([' ', ',']).filter_map(|network| network.parse::<crate::config::Network>().ok());
        networks.into_iter().any(|network| network.contains(address))
    }
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

    fn warnings(text: &str) -> Vec<String> {
        Doveconf::parse(text).unwrap().warnings(&config(), Some("10.1.2.3"))
    }

    #[test]
    fn a_configuration_as_it_should_be_is_left_alone() {
        assert_eq!(warnings(GOOD), Vec::<String>::new());
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
