//! The new side's doveadm service behind TLS: from the first octet, and by STARTTLS; with an authority, and with a pinned
//! key. What can't be protected is not sent.

use std::path::Path;
use std::process::Command;

use crate::copy::{Pair, assert_equal_everywhere, on_user, shown, sync, verify};
use crate::lab::account::Account;
use crate::lab::ports::{self, Port};
use crate::lab::{Dovecot, Ferry, FerrySpec, Release, Spec, Tap, World, nasty, tls};

/// Two servers, of which the new one has a doveadm port inside TLS beside that for STARTTLS, and a wire to each.
struct Scene {
    pair: Pair,
    account: Account,
    starttls: Tap,
    tls: Tap,
    _port: Port,
}

impl Scene {
    fn new(messages: u32) -> Self {
        Self::with(messages, "")
    }

    fn with(messages: u32, extra: &str) -> Self {
        let port = ports::claim();
        let listener = format!(
            "service doveadm {{\n  inet_listener doveadm-tls {{\n    port = {}\n    ssl = yes\n  }}\n}}\n{extra}",
            port.number
        );
        let new = Spec { extra: listener, ..Spec::new_side(&["u1"]) };
        // (2.4 does TLS for doveadm whatever `ssl` says.)
        let new = if extra.is_empty() { new } else { Spec { release: Release::V23, ..new } };
        let pair = Pair { old: Dovecot::start(Spec::old(&["u1"])), new: Dovecot::start(new) };
        let account = nasty::mixed(&pair.old, "u1", messages);
        let (starttls, tls) = (Tap::to(pair.new.doveadm_port()), Tap::to(port.number));
        Self { pair, account, starttls, tls, _port: port }
    }

    fn ferry(&self, scheme: &str, trust: &str) -> Ferry {
        let wire = if scheme == "doveadm+tls" { &self.tls } else { &self.starttls };
        Ferry::prepare(FerrySpec {
            doveadm: Some(format!("{scheme}://127.0.0.1:{}", wire.port)),
            doveadm_trust: Some(trust.to_owned()),
            ..FerrySpec::between(&self.pair.old, &self.pair.new)
        })
    }

    fn ca(&self) -> String {
        format!("ca_file = \"{}\"", self.pair.new.tls().ca.display())
    }

    /// `sync` is refused, and nothing of worth was said to anybody; gives what it printed.
    fn refusal(&self, scheme: &str, trust: &str) -> String {
        let ferry = self.ferry(scheme, trust);
        let output = on_user(&ferry, &self.pair, &["sync"], "u1");
        assert!(!output.status.success(), "{}", shown(&output));
        self.assert_nothing_was_shown();
        let checked = ferry.run(&["check"]);
        assert_eq!(checked.status.code(), Some(1), "{}", shown(&checked));
        let line = |text: &str| {
            let line = text.lines().find(|line| line.contains(&format!("{scheme}://127.0.0.1")));
            line.unwrap_or_else(|| panic!("{text}")).to_owned()
        };
        line(&shown(&checked));
        line(&shown(&output))
    }

    /// Neither the password, nor a command, nor a message went over a wire in clear.
    fn assert_nothing_was_shown(&self) {
        for talk in [self.starttls.since(0), self.tls.since(0)].into_iter().flatten() {
            let asked = talk.asked();
            for word in ["PLAIN", "dsync", "Subject", "AGRvdmVhZG0A"] {
                assert!(!asked.contains(word), "{word:?} in clear: {asked:?}");
            }
        }
    }
}

/// The pin of a certificate by the command that the documentation tells.
pub(crate) fn pin(certificate: &Path) -> String {
    let command = "openssl x509 -in \"$0\" -noout -pubkey | openssl pkey -pubin -outform der | sha256sum";
    let output = Command::new("sh").args(["-c", command]).arg(certificate).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let sum = text.split(' ').next().unwrap();
    assert_eq!(sum.len(), 64, "{text:?}");
    format!("pin = \"sha256:{sum}\"")
}

#[test]
fn an_account_is_written_inside_tls_and_after_starttls() {
    for scheme in ["doveadm+tls", "doveadm+starttls"] {
        let scene = Scene::new(300);
        let ferry = scene.ferry(scheme, &scene.ca());
        ferry.run_ok(&["check"]);
        sync(&ferry, &scene.pair, "u1");
        assert_equal_everywhere(&ferry, &scene.pair, &scene.account);
        let wire = if scheme == "doveadm+tls" { &scene.tls } else { &scene.starttls };
        let octets: usize = wire.since(0).iter().map(|talk| talk.asked().len()).sum();
        assert!(octets > 100_000, "it went another way: {octets} octets over the wire");
        scene.assert_nothing_was_shown();
    }
}

#[test]
fn a_pinned_key_is_trusted_whoever_signed_its_certificate() {
    for scheme in ["doveadm+tls", "doveadm+starttls"] {
        let scene = Scene::new(20);
        // Nobody's certificate is for this name, and the lab's authority is not the system's.
        let ferry = scene.ferry(scheme, &pin(&scene.pair.new.tls().cert));
        sync(&ferry, &scene.pair, "u1");
        let (report, code) = verify(&ferry, &scene.pair, "u1", "all");
        assert_eq!((report["identical"].as_bool(), code), (Some(true), 0), "{report:#}");
        scene.assert_nothing_was_shown();
    }
}

#[test]
fn another_key_or_another_authority_is_refused_and_told() {
    let scene = Scene::new(1);
    let folder = tempfile::tempdir().unwrap();
    let stranger = tls::stranger(folder.path());
    for scheme in ["doveadm+tls", "doveadm+starttls"] {
        let said = scene.refusal(scheme, &pin(&stranger));
        assert!(said.contains("not the pinned one"), "{said}");
        let own = pin(&scene.pair.new.tls().cert);
        let own = own.trim_start_matches("pin = ").trim_matches('"');
        assert!(said.contains(own), "it doesn't tell the server's own key {own}: {said}");
        let said = scene.refusal(scheme, &format!("ca_file = \"{}\"", stranger.display()));
        assert!(said.contains("isn't trusted") && said.contains("ca_file"), "{said}");
    }
    assert_eq!(World::of(&scene.pair.new, "u1").count(), 0);
}

/// Such certificates are refused even where they are listed, unless their key is pinned.
#[test]
fn an_expired_certificate_and_one_for_another_name_need_a_pin() {
    for (host, expired, problem, advice) in [
        ("127.0.0.1", true, "expired", "renew the server's certificate"),
        ("mail.example", false, "mail.example", "connect by a name that its certificate is for"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let (cert, key) = tls::self_signed(folder.path(), host, expired);
        let scene = Scene::with(5, &format!("ssl_cert = <{}\nssl_key = <{}\n", cert.display(), key.display()));
        for scheme in ["doveadm+tls", "doveadm+starttls"] {
            let said = scene.refusal(scheme, &format!("ca_file = \"{}\"", cert.display()));
            assert!(said.contains(problem) && said.contains(advice), "{said}");
        }
        assert_eq!(World::of(&scene.pair.new, "u1").count(), 0);
        let [first, second] = ["doveadm+tls", "doveadm+starttls"].map(|scheme| scene.ferry(scheme, &pin(&cert)));
        first.run_ok(&["check"]);
        second.run_ok(&["check"]);
        let ferry = if expired { first } else { second };
        sync(&ferry, &scene.pair, "u1");
        let (report, code) = verify(&ferry, &scene.pair, "u1", "all");
        assert_eq!((report["identical"].as_bool(), code), (Some(true), 0), "{report:#}");
        scene.assert_nothing_was_shown();
    }
}

#[test]
fn a_server_without_tls_is_not_spoken_to_in_clear() {
    let scene = Scene::with(1, "ssl = no\n");
    let said = scene.refusal("doveadm+starttls", &scene.ca());
    assert!(said.contains("STARTTLS was refused or failed") && said.contains("ssl = yes"), "{said}");
    let said = scene.refusal("doveadm+tls", &scene.ca());
    assert!(said.contains("no TLS with"), "{said}");
}

#[test]
fn tls_towards_the_port_for_starttls_is_refused_and_told() {
    let scene = Scene::new(1);
    let ferry = Ferry::prepare(FerrySpec {
        doveadm: Some(format!("doveadm+tls://127.0.0.1:{}", scene.starttls.port)),
        doveadm_trust: Some(scene.ca()),
        ..FerrySpec::between(&scene.pair.old, &scene.pair.new)
    });
    let output = on_user(&ferry, &scene.pair, &["sync"], "u1");
    assert!(!output.status.success() && shown(&output).contains("no TLS with"), "{}", shown(&output));
    scene.assert_nothing_was_shown();
}

#[test]
fn the_sides_keys_can_be_pinned_too() {
    let scene = Scene::new(20);
    let Pair { old, new } = &scene.pair;
    let ferry = |old_pin: &str, new_pin: &str| {
        // A pin takes the place of the authority that the lab gives to sides inside TLS.
        let ferry = Ferry::prepare(FerrySpec {
            old_imap: Some(format!("imaps://127.0.0.1:{}", old.imaps_port())),
            new_imap: Some(format!("imap+starttls://127.0.0.1:{}", new.imap_port())),
            pop3: true,
            old_pop3: Some(format!("pop3+starttls://127.0.0.1:{}", old.pop3_port())),
            new_pop3: Some(format!("pop3s://127.0.0.1:{}", new.pop3s_port())),
            ..FerrySpec::between(old, new)
        });
        let mut text = ferry.config_text();
        for (server, pin) in [(old, old_pin), (new, new_pin)] {
            let authority = format!("ca_file = \"{}\"", server.tls().ca.display());
            assert!(text.contains(&authority), "{text}");
            text = text.replace(&authority, pin);
        }
        std::fs::write(ferry.config_path(), text).unwrap();
        ferry
    };
    let (old_pin, new_pin) = (pin(&old.tls().cert), pin(&new.tls().cert));
    let right = ferry(&old_pin, &new_pin);
    sync(&right, &scene.pair, "u1");
    let (report, _) = verify(&right, &scene.pair, "u1", "all");
    assert_eq!(report["identical"], true, "{report:#}");
    assert!(report["pop3"].as_str().is_some_and(|pop3| pop3.contains("identical")), "{report:#}");
    let wrong = on_user(&ferry(&new_pin, &new_pin), &scene.pair, &["verify"], "u1");
    let said = shown(&wrong);
    assert!(!wrong.status.success() && said.contains("old side") && said.contains("not the pinned one"), "{said}");
}
