//! The old side's doveadm service behind TLS: from the first octet, and by STARTTLS; with an authority, and with a pinned key. What
//! can't be protected is not sent.

use super::*;
use crate::copy::{on_user, shown};
use crate::doveadm_tls::pin;
use crate::lab::ports::{self, Port};
use crate::lab::{Tap, World, tls};

const SCHEMES: [&str; 2] = ["doveadm+tls", "doveadm+starttls"];

/// Two servers, of which the old one has a doveadm port inside TLS beside that for STARTTLS, and a wire to each.
struct Scene {
    pair: Pair,
    account: Account,
    wires: [Tap; 2],
    _port: Port,
}

impl Scene {
    fn with(extra: &str) -> Self {
        let port = ports::claim();
        let extra = format!(
            "service doveadm {{\n  inet_listener doveadm-tls {{\n    port = {}\n    ssl = yes\n  }}\n}}\n{extra}",
            port.number
        );
        let pair = pair(Spec { extra, ..old_side(Release::V23, Format::Maildir) });
        let account = nasty::small(&pair.old, "u1");
        let wires = [Tap::to(port.number), Tap::to(pair.old.doveadm_port())];
        Self { pair, account, wires, _port: port }
    }

    fn wire(&self, scheme: &str) -> &Tap {
        &self.wires[usize::from(scheme != "doveadm+tls")]
    }

    /// Reads the old side by `scheme`; `trust` is a key of the configuration and what it is.
    fn ferry(&self, scheme: &str, trust: &str) -> Ferry {
        // (The closing quote is the lab's.)
        let source = format!("{scheme}://127.0.0.1:{}\", {}", self.wire(scheme).port, trust.strip_suffix('"').unwrap());
        Ferry::prepare(FerrySpec { source: Some(source), ..FerrySpec::between(&self.pair.old, &self.pair.new) })
    }

    /// Neither the password, nor a command, nor a message went over a wire in clear, in either direction.
    fn assert_nothing_was_shown(&self) {
        for talk in self.wires.iter().flat_map(|wire| wire.since(0)) {
            let (asked, heard) = (talk.asked(), String::from_utf8_lossy(&talk.heard()).into_owned());
            for word in ["PLAIN", "dsync", "AGRvdmVhZG0A", "Subject", "INBOX"] {
                assert!(!asked.contains(word) && !heard.contains(word), "{word:?} in clear: {asked:?} {heard:?}");
            }
        }
    }

    /// `sync` and `check` say why they don't read there; nothing was copied, and nothing of worth said to anybody.
    fn refusal(&self, scheme: &str, trust: &str) -> String {
        let ferry = self.ferry(scheme, trust);
        let output = on_user(&ferry, &self.pair, &["sync"], "u1");
        let said = shown(&output);
        assert!(!output.status.success() && said.contains(scheme), "{said}");
        let checked = ferry.run(&["check"]);
        let line = shown(&checked);
        let line = line.lines().find(|line| line.starts_with("old doveadm")).unwrap_or_else(|| panic!("{line}"));
        assert!(checked.status.code() == Some(1) && line.contains("FAILED"), "{line}");
        self.assert_nothing_was_shown();
        assert_eq!(World::of(&self.pair.new, "u1").count(), 0);
        said
    }
}

#[test]
fn an_account_is_read_inside_tls_and_after_starttls_by_an_authority_or_a_pinned_key() {
    for scheme in SCHEMES {
        let scene = Scene::with("");
        let ferry = scene.ferry(scheme, &format!("ca_file = \"{}\"", scene.pair.old.tls().ca.display()));
        let checked = shown(&ferry.run(&["check"]));
        assert!(checked.contains("old doveadm    ok: "), "{checked}");
        sync(&ferry, &scene.pair, "u1");
        assert_equal_everywhere(&ferry, &scene.pair, &scene.account);
        let octets: usize = scene.wire(scheme).since(0).iter().map(|talk| talk.heard().len()).sum();
        assert!(octets > 10_000, "it went another way: {octets} octets over the wire");

        let new = Dovecot::start(Spec::new_side(&["u1"]));
        let scene = Scene { pair: Pair { new, ..scene.pair }, ..scene };
        let ferry = scene.ferry(scheme, &pin(&scene.pair.old.tls().cert));
        sync(&ferry, &scene.pair, "u1");
        assert_equal_everywhere(&ferry, &scene.pair, &scene.account);
        scene.assert_nothing_was_shown();
    }
}

#[test]
fn an_old_side_with_another_key_or_of_another_authority_or_without_tls_is_not_read() {
    let scene = Scene::with("");
    let folder = tempfile::tempdir().unwrap();
    let stranger = tls::stranger(folder.path());
    for scheme in SCHEMES {
        let said = scene.refusal(scheme, &pin(&stranger));
        assert!(said.contains("not the pinned one"), "{said}");
        let said = scene.refusal(scheme, &format!("ca_file = \"{}\"", stranger.display()));
        assert!(said.contains("isn't trusted") && said.contains("ca_file"), "{said}");
    }
    let scene = Scene::with("ssl = no\n");
    let ca = format!("ca_file = \"{}\"", scene.pair.old.tls().ca.display());
    let said = scene.refusal("doveadm+starttls", &ca);
    assert!(said.contains("STARTTLS was refused or failed") && said.contains("ssl = yes"), "{said}");
    let said = scene.refusal("doveadm+tls", &ca);
    assert!(said.contains("no TLS with"), "{said}");
}
