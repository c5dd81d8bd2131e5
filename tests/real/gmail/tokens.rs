//! Tokens in place of passwords, which Google wants of everybody but those with an "app password".

use super::{LONG, assert_read_once, fill, log_in, new_side, spec, switch, verify};
use crate::copy::shown;
use crate::front::secrets::assert_silent;
use crate::lab::server::Format;
use crate::lab::world::Next;
use crate::lab::{Ferry, FerrySpec, Gmail, Tongue, World};
use crate::tokens::Issuer;
use crate::uidl::maildrop;

/// Gives tokens that the scripted server takes, each with a number of its own.
fn issuer() -> Issuer {
    Issuer::new(
        "#!/bin/sh\necho \"$*\" >> $(dirname $0)/calls\necho ya29.$(wc -l < $(dirname $0)/calls).$1\necho 3599\n",
    )
}

#[test]
fn a_user_of_gmail_is_moved_with_tokens_and_one_that_is_over_in_the_middle_is_replaced() {
    for (kind, format) in [("xoauth2", Format::Mdbox), ("oauthbearer", Format::Maildir)] {
        let old = Gmail::start(&["u1"], Tongue::English);
        fill(&old, "u1");
        let new = new_side(&old, "u1", format, "");
        let issuer = issuer();
        let credentials = issuer.credentials(kind, ", \"%u\"");
        let ferry = Ferry::start(FerrySpec {
            credentials: [&credentials, "{ kind = \"user\" }"],
            pop3: true,
            old_pop3: Some(old.pop3_url()),
            env: vec![("RUST_LOG", "mailferry=trace")],
            ..spec(&old, &new)
        });
        old.state().tokens.over_at_body = Some(4);
        log_in(&ferry, "u1").ok("LOGOUT");
        ferry.wait_phase("u1", "following", LONG);
        let over = old.state().tokens.over;
        let refused = old.state().tokens.refused;
        assert!(over == 1 && refused > 0, "{kind}: the first token was over in the middle: {over}, {refused}");
        assert_read_once(&old, "u1");
        switch(&ferry, "u1");
        assert_eq!(maildrop::shown(&old, "u1"), maildrop::shown(&new, "u1"));
        let found = World::of(&old, "u1").differences(&World::of(&new, "u1"), Next::AtLeast);
        assert!(found.is_empty(), "{found:#?}");
        let calls = issuer.calls();
        let (report, code) = verify(&ferry, "u1");
        assert_eq!((report["identical"].as_bool(), code), (Some(true), 0), "{report:#}");
        // One token, a second one when that was over, and a third one in the process that verified.
        assert_eq!((calls, issuer.calls().len()), (vec!["u1".to_owned(); 2], 3));
        let taken = old.state().tokens.taken.clone();
        for (place, token) in [("IMAP", "ya29.1.u1"), ("IMAP", "ya29.2.u1"), ("POP3", "ya29.2.u1")] {
            assert!(taken.iter().any(|(at, text)| *at == place && text == token), "{kind} {place} {token}: {taken:?}");
        }
        ["ya29.1.u1", "ya29.2.u1"].iter().for_each(|token| assert_silent(&ferry.log(), token));
    }
}

#[test]
fn a_token_that_google_does_not_take_is_named_with_what_it_says() {
    let old = Gmail::start(&["u1"], Tongue::English);
    old.state().tokens.over = 1000;
    let new = new_side(&old, "u1", Format::Mdbox, "");
    for (kind, pop3) in [("xoauth2", false), ("oauthbearer", false), ("xoauth2", true), ("oauthbearer", true)] {
        let issuer = issuer();
        let credentials = issuer.credentials(kind, ", \"%u\"");
        let ferry = Ferry::prepare(FerrySpec {
            credentials: [&credentials, "{ kind = \"user\" }"],
            pop3,
            old_pop3: pop3.then(|| old.pop3_url()),
            ..spec(&old, &new)
        });
        let file = ferry.password_file("pw-of-u1");
        let said = shown(&ferry.run(&["sync", "u1", "--password-file", &file]));
        assert!(said.contains("refuses the login of u1 with a token (old.credentials)"), "{kind}: {said}");
        assert!(said.contains("\"scope\":\"https://mail.google.com/\""), "{kind}: {said}");
        assert!(!said.contains("ya29."), "{said}");
    }
}
