//! `mailferry check`: what an operator learns before anything moves.

use crate::copy::{Pair, on_user, shown};
use crate::lab::account::{Account, Message};
use crate::lab::{Dovecot, Ferry, FerrySpec, Imap, Spec, World, nasty};
use crate::uidl::maildrop::set_fields;

fn check(ferry: &Ferry, pair: &Pair, user: &str, code: i32) -> String {
    let output = on_user(ferry, pair, &["check"], user);
    assert_eq!(output.status.code(), Some(code), "{}", shown(&output));
    String::from_utf8(output.stdout).unwrap()
}

fn with_pop3(pair: &Pair) -> Ferry {
    Ferry::prepare(FerrySpec { pop3: true, ..FerrySpec::between(&pair.old, &pair.new) })
}

/// What it says in one row about the user.
fn row<'a>(text: &'a str, name: &str) -> &'a str {
    let line = text.lines().find(|line| line.starts_with(&format!("  {name} ")));
    line.unwrap_or_else(|| panic!("no {name}: {text}")).trim_start().trim_start_matches(name).trim()
}

#[test]
fn what_would_happen_to_a_user_is_told_and_nothing_happens() {
    let pair = Pair::start(&["u1"]);
    nasty::small(&pair.old, "u1");
    let before = [&pair.old, &pair.new].map(|server| World::of(server, "u1"));
    let ferry = with_pop3(&pair);
    let text = check(&ferry, &pair, "u1", 0);
    assert_eq!(row(&text, "now"), "old; the next login starts the move (migration.enroll = \"all\")");
    let old = row(&text, "old side");
    assert!(old.contains(&format!("{} messages", before[0].count())) && old.contains(" mailboxes, "), "{old}");
    assert!(row(&text, "new side").contains(" 0 messages, 0 B"), "{text}");
    // All of this small account is read to see how fast that goes.
    let time = row(&text, "time");
    let all = format!("({} messages, ", before[0].count());
    assert!(
        time.starts_with("about ") && time.contains(&all) && time.contains(&format!(": {all}").replace('(', "")),
        "{time}"
    );
    assert!(row(&text, "POP3").ends_with("UIDLs, template %08xu%08xv, in the order of the UIDs"), "{text}");
    assert_eq!(row(&text, "blocks"), "nothing that can be seen before the copy");
    assert!(row(&text, "then").contains("switched at a good moment"), "{text}");
    assert!(text.contains("old side sees us as 127.0.0.1"), "{text}");
    assert_eq!([&pair.old, &pair.new].map(|server| World::of(server, "u1")), before);
    let store = mailferry::store::Store::open(&ferry.store_path()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    assert!(runtime.block_on(store.user("u1")).unwrap().is_none(), "not even a record");

    let without = ferry.run(&["check", "u1"]);
    assert!(without.status.code() == Some(2) && shown(&without).contains("--password-file"), "{}", shown(&without));
    let file = ferry.password_file("wrong");
    let wrong = ferry.run(&["check", "u1", "--password-file", &file]);
    assert!(wrong.status.code() == Some(1) && shown(&wrong).contains("can't be looked at"), "{}", shown(&wrong));
}

#[test]
fn what_stands_in_a_users_way_is_named() {
    let pair = Pair::start(&["foreign", "keywords", "uidls"]);
    let ferry = with_pop3(&pair);
    let says = |user: &str, words: &[&str]| {
        let text = check(&ferry, &pair, user, 1);
        let blocks = row(&text, "blocks");
        assert!(words.iter().all(|word| blocks.contains(word)), "{user}: {text}");
        assert!(row(&text, "then").contains("the user stays where they are"), "{text}");
    };
    nasty::small(&pair.old, "foreign");
    let mut intruder = Imap::connect(pair.new.imap_port());
    intruder.login("foreign", pair.new.password("foreign"));
    intruder.append("INBOX", "", "", b"Subject: foreign\r\n\r\n");
    says("foreign", &["INBOX", "not ours"]);

    let mut account = Account::new("keywords");
    account.mailbox("Odd").push(nasty::plain("a", 1, &"x".repeat(60)));
    account.write_to(&pair.old);
    says("keywords", &["1 messages have keywords", "xxxxx"]);

    let mut account = Account::new("uidls");
    for (number, body) in ["a", "bb"].into_iter().enumerate() {
        let raw = format!("Subject: {number}\r\n\r\n{body}\r\n");
        account.mailbox("INBOX").push(Message::new(raw.into_bytes(), "", 1_700_000_000));
    }
    account.write_to(&pair.old);
    // Two messages with one UIDL: no client can tell them apart, and no server of ours could.
    set_fields(&pair.old, "uidls", &[(1, "Ptwice"), (2, "Ptwice")].map(|(uid, field)| (uid, field.to_owned())));
    says("uidls", &["POP3", "have the same UIDL twice"]);
}

/// A Dovecot lets an address wait, up to 15 s, that has given wrong passwords. Which address that is, it tells itself.
#[test]
fn a_side_that_does_not_trust_us_is_named_and_punishes_everybody_for_one() {
    for trusted in [false, true] {
        let old = Dovecot::start(Spec { trusted, ..Spec::old(&["u1"]) });
        let pair = Pair { old, new: Dovecot::start(Spec::new_side(&["u1"])) };
        let spec = FerrySpec { pop3: true, enroll: "none", ..FerrySpec::between(&pair.old, &pair.new) };
        let ferry = Ferry::start(spec);
        let said = shown(&ferry.run(&["check"]));
        let row = said.lines().find(|line| line.contains("does not trust 127.0.0.1"));
        assert_eq!(row.is_some_and(|row| row.contains("up to 15 s")), !trusted, "{said}");
        let refused = Imap::connect_from("127.0.0.2", ferry.imap()).try_login("u1", "guessed");
        assert!(refused.starts_with("NO [AUTHENTICATIONFAILED]"), "{refused}");
        let penalties = pair.old.doveadm_ok(&["penalty"]);
        let punished = |address: &str| penalties.lines().any(|line| line.split_whitespace().next() == Some(address));
        assert_eq!((punished("127.0.0.1"), punished("127.0.0.2")), (!trusted, trusted), "{penalties}");
    }
}

/// Clients that find another Sent after the switch have two of them from then on.
#[test]
fn a_second_sent_is_named_before_the_copy_with_what_to_set() {
    let mailboxes = |plain: &str, items: &str| {
        format!("namespace inbox {{\n  mailbox Sent {{\n{plain}  }}\n  mailbox \"Sent Items\" {{\n{items}  }}\n}}\n")
    };
    let items_only = mailboxes("    special_use =\n    auto = no\n", "    special_use = \\Sent\n    auto = no\n");
    let old = Spec { extra: items_only.clone(), ..Spec::old(&["u1"]) };
    let new = Spec { extra: mailboxes("    auto = create\n", ""), ..Spec::new_side(&["u1"]) };
    let mut pair = Pair { old: Dovecot::start(old), new: Dovecot::start(new) };
    let mut account = Account::new("u1");
    account.mailbox("Sent Items").push(Message::new(*b"Subject: sent\r\n\r\nx\r\n", "", 1_700_000_000));
    account.write_to(&pair.old);
    let ferry = pair.ferry();
    let text = check(&ferry, &pair, "u1", 1);
    let set =
        "\\sent is `Sent Items` on the old side: set `special_use = \\Sent` in a `mailbox` block for `Sent Items`";
    assert!(
        row(&text, "blocks").starts_with(set) && row(&text, "blocks").ends_with("and take it from `Sent`"),
        "{text}"
    );
    assert!(row(&text, "folders").starts_with("`Sent` (\\sent) is only on the new side"), "{text}");

    pair.new.configure(&items_only);
    let text = check(&ferry, &pair, "u1", 0);
    assert!(!text.contains("  folders "), "{text}");
    crate::copy::sync(&ferry, &pair, "u1");
    let (report, code) = crate::copy::verify(&ferry, &pair, "u1", "all");
    assert_eq!(code, 0, "{report:#}");
}
