//! The operator's guide, done as it says: every command in it is run in its order, and what it shows is what comes, but for
//! the numbers. The lines for the new Dovecot's configuration are shown to the letter, there and in the README.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::copy::{Pair, shown};
use crate::lab::{Dovecot, Ferry, FerrySpec, Imap, Spec, nasty};

/// Far above what any of this takes on a busy machine.
const LONG: Duration = Duration::from_secs(60);

/// A stretch of digits is any number, and so are the blanks that a table needs for it.
fn shape(line: &str) -> String {
    let mut out = String::new();
    for word in line.split_whitespace() {
        let mut last = ' ';
        for c in word.chars().map(|c| if c.is_ascii_digit() { '#' } else { c }) {
            if c != '#' || last != '#' {
                out.push(c);
            }
            last = c;
        }
        out.push(' ');
    }
    out
}

/// Whether a line is as the guide shows it: `…` stands for anything.
fn is_as_shown(found: &str, wanted: &str) -> bool {
    let (found, wanted) = (shape(found), shape(wanted));
    match wanted.split_once('…') {
        None => found == wanted,
        Some((start, _)) => found.starts_with(start.trim_end()),
    }
}

/// What `--new-config` printed, with the port and the address that the guide shows.
fn as_in_the_guide(printed: &str, new: &Dovecot) -> String {
    let port = format!("    port = {}\n", new.doveadm_port());
    assert!(printed.contains(&port), "{port}: {printed}");
    printed.replace(&port, "    port = 24245\n").replace("networks = 127.0.0.1\n", "networks = 192.0.2.7\n")
}

fn read(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

struct Reader {
    ferry: Ferry,
    pair: Pair,
    users: String,
}

impl Reader {
    fn comment(&self, text: &str) {
        let (user, what) = text.split_once(' ').unwrap();
        match what {
            "logs in" => {
                let mut imap = Imap::connect(self.ferry.imap());
                imap.login(user, self.pair.old.password(user));
                imap.ok("LOGOUT");
            }
            "is new" => drop(self.ferry.wait_phase(user, "new", LONG)),
            "is copied" => drop(self.ferry.wait_status(user, LONG, |status| status["progress"]["messages_total"] != 0)),
            other => panic!("the guide wants {other:?}"),
        }
    }

    fn command(&self, line: &str, wanted: &[&str]) {
        let mut words = line.split_whitespace();
        assert_eq!(words.next(), Some("mailferry"), "{line}");
        let mut args: Vec<String> = Vec::new();
        while let Some(word) = words.next() {
            args.push(match word {
                "--config" => {
                    assert_eq!(words.next(), Some("F"), "{line}");
                    continue;
                }
                "users.txt" => self.users.clone(),
                word => match word.strip_suffix(".password") {
                    Some(user) => self.ferry.password_file(self.pair.old.password(user)),
                    None if word == "doveconf.txt" => self.ferry.dir().join(word).display().to_string(),
                    None => word.to_owned(),
                },
            });
        }
        let output = self.ferry.run(&args.iter().map(String::as_str).collect::<Vec<_>>());
        assert!(output.status.success(), "{line}\n{}", shown(&output));
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        if line.contains("--new-config") {
            let said = as_in_the_guide(&said, &self.pair.new);
            assert_eq!(said.lines().collect::<Vec<_>>(), wanted, "{line}");
            return;
        }
        let mut lines = said.lines();
        for wanted in wanted.iter().filter(|line| **line != "…") {
            assert!(lines.any(|line| is_as_shown(line, wanted)), "{line}: no line {wanted:?} in\n{said}");
        }
    }
}

#[test]
fn the_guide_is_true() {
    let users = &["anna", "bert"];
    let pair = Pair { old: Dovecot::start(Spec::old(users)), new: Dovecot::start(Spec::new_side(users)) };
    nasty::small(&pair.old, "anna");
    nasty::small(&pair.old, "bert");
    let ferry = Ferry::start(FerrySpec { enroll: "none", pop3: true, ..FerrySpec::between(&pair.old, &pair.new) });
    let list = ferry.dir().join("users.txt");
    fs::write(&list, "bert\n").unwrap();
    // A host as it should be.
    let doveconf = "doveadm_allowed_commands = dsync-server\ndoveadm_password = # hidden, use -P to show it\n\
                    login_trusted_networks = 127.0.0.1\nservice doveadm {\n  inet_listener mailferry {\n    port = PORT\n  }\n}\n\
                    service imap {\n  process_limit = 10000\n}\nservice pop3 {\n  process_limit = 10000\n}\n";
    let doveconf = doveconf.replace("PORT", &pair.new.doveadm_port().to_string());
    fs::write(ferry.dir().join("doveconf.txt"), doveconf).unwrap();
    let reader = Reader { ferry, pair, users: list.display().to_string() };

    let text = read("docs/operator-guide.md");
    let (mut commands, mut inside) = (Vec::<(&str, Vec<&str>)>::new(), false);
    let (mut done, mut configurations) = (0, BTreeSet::new());
    for line in text.lines() {
        if let Some(comment) = line.strip_prefix("<!-- ") {
            reader.comment(comment.trim_end_matches(" -->"));
        } else if line == "```console" {
            inside = true;
        } else if inside && line == "```" {
            inside = false;
            for (command, wanted) in commands.drain(..) {
                reader.command(command, &wanted);
                done += 1;
                configurations.extend(command.split(' ').find(|word| word.starts_with("--new-config")));
            }
        } else if inside {
            match line.strip_prefix("$ ") {
                Some(command) => commands.push((command, Vec::new())),
                None => commands.last_mut().expect("a command first").1.push(line),
            }
        }
    }
    assert!(done >= 15, "{done} commands");
    assert_eq!(configurations, BTreeSet::from(["--new-config", "--new-config=2.4"]));
}

/// The README shows the lines in short, and which have another name in 2.4.
#[test]
fn the_readme_shows_what_the_new_dovecot_needs_in_both_releases() {
    let pair = Pair::start(&["u1"]);
    let ferry = Ferry::prepare(FerrySpec::between(&pair.old, &pair.new));
    let printed = ["--new-config=2.3", "--new-config=2.4"].map(|option| {
        let text = as_in_the_guide(&ferry.run_ok(&["check", option]), &pair.new);
        text.lines().map(|line| line.trim().to_owned()).collect::<BTreeSet<_>>()
    });
    let readme = read("README.md");
    // A paragraph may be broken anew at any time: what is before a block is compared by its words.
    let block = |before: &str| -> Vec<String> {
        let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        // (A fence may name a language.)
        let mut parts = vec![String::new()];
        for line in readme.lines() {
            match line.starts_with("```") {
                true => parts.push(String::new()),
                false => parts.last_mut().unwrap().extend([line, "\n"]),
            }
        }
        let found = parts.chunks(2).find(|pair| words(&pair[0]).ends_with(before));
        found.unwrap_or_else(|| panic!("no {before:?}"))[1].lines().map(str::to_owned).collect()
    };
    let short = block("In short, and the same in both:");
    assert!(short.len() >= 10, "{short:?}");
    for line in &short {
        let line = line.split(" #").next().unwrap().trim();
        let line = line.replace('…', "PASSWORD").replace("ADDRESS-OF-THE-PROXY", "192.0.2.7");
        assert!(printed.iter().all(|printed| printed.contains(&line)), "{line:?} is not in {printed:#?}");
    }
    let table = block("(the last two are among the lines that are printed):");
    let column = |title: &str| table[0].find(title).unwrap();
    for row in &table[table.len() - 2..] {
        let (old, new) = (&row[column("2.3")..column("2.4")], &row[column("2.4")..]);
        assert!(printed[0].contains(old.trim()) && !printed[1].contains(old.trim()), "{row}");
        assert!(printed[1].contains(new.trim()) && !printed[0].contains(new.trim()), "{row}");
    }
}
