//! A side that is reached over TLS. Dovecot writes pipelined answers in another order there as soon as its output is full:
//! what is asked for in one order must not be believed to come in it.

use std::time::Duration;

use crate::copy::{Pair, assert_equal_everywhere, sync};
use crate::lab::{Dovecot, Ferry, FerrySpec, Imap, Pop3, Spec, World, nasty, tls};

#[test]
fn a_large_account_behind_tls_arrives_whole() {
    let pair = Pair::start(&["u1"]);
    let account = nasty::mixed(&pair.old, "u1", 800);
    let ferry = Ferry::prepare(FerrySpec {
        old_imap: Some(format!("imaps://127.0.0.1:{}", pair.old.imaps_port())),
        new_imap: Some(format!("imap+starttls://127.0.0.1:{}", pair.new.imap_port())),
        ..FerrySpec::between(&pair.old, &pair.new)
    });
    sync(&ferry, &pair, "u1");
    // One look may be lucky.
    for _ in 0..3 {
        assert_equal_everywhere(&ferry, &pair, &account);
    }
}

/// Over IMAP and POP3, for our own connections and for those of clients.
#[test]
fn a_side_that_wants_a_certificate_of_ours_gets_one() {
    let folder = tempfile::tempdir().unwrap();
    let files = tls::write(folder.path());
    let (cert, key) = tls::client(folder.path());
    let extra = format!(
        "ssl_ca = <{}\nssl_require_crl = no\nssl_verify_client_cert = yes\nauth_ssl_require_client_cert = yes\n",
        files.ca.display()
    );
    let pair = Pair {
        old: Dovecot::start(Spec { extra, ..Spec::old(&["u1"]) }),
        new: Dovecot::start(Spec::new_side(&["u1"])),
    };
    nasty::small(&pair.old, "u1");
    let own = format!("client_cert = \"{}\"\nclient_key = \"{}\"", cert.display(), key.display());
    let ferry = |extra: Vec<(&str, &str)>| {
        Ferry::start(FerrySpec {
            old_imap: Some(format!("imap+starttls://127.0.0.1:{}", pair.old.imap_port())),
            pop3: true,
            old_pop3: Some(format!("pop3s://127.0.0.1:{}", pair.old.pop3s_port())),
            extra,
            ..FerrySpec::between(&pair.old, &pair.new)
        })
    };
    let without = ferry(Vec::new());
    let mut imap = Imap::connect(without.imap());
    let (answer, _) = imap.cmd("LOGIN u1 pw-of-u1");
    assert!(!answer.starts_with("OK"), "{answer}");

    // The name in the certificate is asked for as well, and is not the address.
    let named = format!("{own}\ntls_name = \"localhost\"\ntls_min = \"1.3\"");
    let ferry = ferry(vec![("old", &named)]);
    let mut pop3 = Pop3::connect(ferry.pop3());
    pop3.login("u1", "pw-of-u1");
    assert!(!pop3.list("UIDL").is_empty());
    pop3.quit();
    let mut imap = Imap::connect(ferry.imap());
    imap.login("u1", "pw-of-u1");
    imap.ok("LOGOUT");
    ferry.wait_phase("u1", "new", Duration::from_secs(120));
    assert_eq!(World::of(&pair.new, "u1").count(), 12);
}
