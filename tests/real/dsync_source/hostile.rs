//! A doveadm service that dies, hangs up, or says what no Dovecot says: the copy ends with words, and goes on from there.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

use super::{LONG, by_dsync, pair, url};
use crate::copy::{Pair, on_user, shown, sync, verify};
use crate::lab::{Dovecot, Ferry, FerrySpec, Hold, Imap, Spec, World, nasty, wait_for};
use crate::resume::Running;

/// What a slave says first.
const OPENING: &str = "\n+\nVERSION\tdsync\t3\t5\n\
    Hhostname\tsync_max_size\tsync_until_timestamp\n\
    Smailbox_guid\tlast_uidvalidity\tlast_common_uid\tlast_common_modseq\tlast_common_pvt_modseq\tlast_messages_count\n\
    Nname\texistence\tmailbox_guid\tuid_validity\tuid_next\n\
    Dhierarchy_sep\n\
    Bmailbox_guid\tuid_validity\tuid_next\tmessages_count\tfirst_recent_uid\thighest_modseq\n\
    Atype\tkey\tvalue\tstream\n\
    Ctype\tuid\tguid\tmodseq\tfinal_flags\tkeyword_changes\treceived_timestamp\tvirtual_size\n\
    Rguid\tuid\n\
    Mguid\tuid\tpop3_uidl\tpop3_order\treceived_date\tsaved_date\tstream\n\
    Ferror\tmail_error\trequire_full_resync\n.\nHliar\n";
const GUID: &str = "b62da02bfc33b02cca9f9d32c8247b2d";

/// What is said when a line comes that begins so, one after the other.
type Script = Vec<(&'static str, String)>;

/// A service that goes by a script, and in the end says nothing, or something for ever.
fn liar(script: Script, endless: bool) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    // It ends with the test's process.
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let script = script.clone();
            thread::spawn(move || lie(stream, script, endless));
        }
    });
    port
}

fn lie(mut stream: TcpStream, script: Script, endless: bool) -> Option<()> {
    let mut lines = BufReader::new(stream.try_clone().ok()?).lines();
    for answer in ["-\n", "+\n", OPENING] {
        lines.next()?.ok()?;
        stream.write_all(answer.as_bytes()).ok()?;
    }
    for (begins, said) in script {
        while !lines.next()?.ok()?.starts_with(begins) {}
        stream.write_all(said.as_bytes()).ok()?;
    }
    let chunk = vec![b'x'; 1 << 20];
    if endless {
        while stream.write_all(&chunk).is_ok() {}
    }
    for line in lines {
        line.ok()?;
    }
    Some(())
}

#[test]
fn what_no_dovecot_says_ends_a_copy_with_words_and_little_memory() {
    let pair = pair(Spec::old(&["u1"]));
    nasty::small(&pair.old, "u1");
    let tree = ("D/", format!("NINBOX\ty\t{GUID}\t7\t20\n.\nD/\n"));
    let listed = |list: &str| -> Script {
        let status = format!("B{GUID}\t7\t20\t2\t1\t9\n.\n{list}");
        let state = format!("S{GUID}\t7\t19\t9\t0\t2\n");
        vec![tree.clone(), ("B", status), (".", ".\n".to_owned()), ("S", state), (".", "F\nX\n".to_owned())]
    };
    let other = vec![tree.clone(), ("B", format!("Bc{}\t7\t20\t2\t1\t9\n.\n", &GUID[1..]))];
    let cut = |list: &str| listed(list).into_iter().take(2).collect::<Script>();
    let cases = [
        ("a line without end", vec![("D/", String::new())], true, "beyond every limit"),
        ("a list that goes back", listed("Cs\t5\nCs\t4\n.\n"), false, "the slave sent \"Cs 4\""),
        ("a UID that is none", listed("Cs\t0\n.\n"), false, "field uid"),
        ("fewer messages than it has", listed("Cs\t5\n.\n"), false, "lists 1 of 2"),
        ("a UID above UIDNEXT", listed("Cs\t5\nCs\t50\n.\n"), false, "UIDNEXT 20"),
        ("another mailbox", other, false, "waiting for the status"),
        ("keywords without end", cut("Cs\t5\t\t\t\t"), true, "beyond every limit"),
    ];
    for (what, script, endless, words) in cases {
        let port = liar(script, endless);
        let ferry =
            Ferry::prepare(FerrySpec { source: Some(format!("doveadm://127.0.0.1:{port}")), ..by_dsync(&pair) });
        let output = on_user(&ferry, &pair, &["sync"], "u1");
        let text = shown(&output);
        assert!(output.status.code() == Some(75) && text.contains(words), "{what}: {text}");
        assert!(text.contains("old side") || text.contains("can't read u1 from doveadm://"), "{what}: {text}");
    }
    assert_eq!(World::of(&pair.new, "u1").count(), 0);
}

#[test]
fn a_service_that_is_not_there_or_refuses_is_told_with_what_to_do() {
    let mut pair = pair(Spec::old(&["u1"]));
    nasty::small(&pair.old, "u1");
    let refused = |pair: &Pair, spec: FerrySpec<'_>, words: &str| {
        let ferry = Ferry::prepare(spec);
        let output = on_user(&ferry, pair, &["sync"], "u1");
        let text = shown(&output);
        assert!(output.status.code() == Some(75) && text.contains(words), "{words}: {text}");
    };
    refused(&pair, FerrySpec { source: Some("doveadm://127.0.0.1:1".to_owned()), ..by_dsync(&pair) }, "127.0.0.1:1");
    pair.old.configure("doveadm_allowed_commands = help\n");
    refused(&pair, by_dsync(&pair), "doveadm_allowed_commands");
    pair.old.configure("doveadm_allowed_commands = dsync-server\ndoveadm_password = another-one\n");
    refused(&pair, by_dsync(&pair), "doveadm password was refused");
    let ferry = Ferry::prepare(by_dsync(&pair));
    let checked = ferry.run(&["check"]);
    assert!(checked.status.code() == Some(1) && shown(&checked).contains("old doveadm"), "{}", shown(&checked));
}

#[test]
fn the_old_server_dies_in_the_middle_of_a_copy_and_the_next_run_goes_on() {
    let mut pair = pair(Spec::old(&["u1"]));
    let account = nasty::bulk(&pair.old, "u1", 600, 20_000);
    let ferry = Ferry::prepare(by_dsync(&pair));
    let mut running = Running::start(&ferry, &pair, "u1");
    running.until(&pair, &account, 100);
    pair.old.kill9();
    let output = running.output();
    assert!(matches!(output.status.code(), Some(0 | 75)), "{}", shown(&output));
    pair.old.start_again();
    sync(&ferry, &pair, "u1");
    let (report, code) = verify(&ferry, &pair, "u1", "all");
    assert_eq!((report["identical"].as_bool(), code), (Some(true), 0), "{report:#}");
}

#[test]
fn a_copy_that_is_killed_goes_on_where_it_was() {
    let pair = pair(Spec::old(&["u1"]));
    let account = nasty::bulk(&pair.old, "u1", 600, 20_000);
    let ferry = Ferry::prepare(by_dsync(&pair));
    let mut running = Running::start(&ferry, &pair, "u1");
    running.until(&pair, &account, 100);
    running.signal("KILL");
    drop(running);
    sync(&ferry, &pair, "u1");
    let (report, code) = verify(&ferry, &pair, "u1", "all");
    assert_eq!((report["identical"].as_bool(), code), (Some(true), 0), "{report:#}");
}

/// The service dies while the user is in the gate: nothing has happened, and the next attempt does it.
#[test]
fn the_old_server_dies_in_the_gate_and_the_user_is_switched_when_it_is_back() {
    let mut pair = pair(Spec::old(&["u1"]));
    nasty::small(&pair.old, "u1");
    let hold = Hold::at("gate-fingerprint#1");
    let fault = hold.fault();
    let source = url(&pair.old);
    let ferry = Ferry::start(FerrySpec {
        auto: false,
        source,
        env: vec![("MAILFERRY_FAULTS", &fault)],
        ..FerrySpec::between(&pair.old, &pair.new)
    });
    let log_in = |old: &Dovecot| {
        let mut imap = Imap::connect(ferry.imap());
        imap.login("u1", old.password("u1"));
        imap.ok("LOGOUT");
    };
    log_in(&pair.old);
    ferry.wait_phase("u1", "following", LONG);
    let first = thread::scope(|scope| {
        let switch = scope.spawn(|| ferry.run(&["switch", "u1"]));
        hold.wait(LONG);
        pair.old.kill9();
        hold.release();
        switch.join().unwrap()
    });
    assert!(!first.status.success(), "{}", shown(&first));
    assert_eq!(ferry.status("u1")["authority"], "old");
    pair.old.start_again();
    log_in(&pair.old);
    wait_for("the switch", LONG, || ferry.run(&["switch", "u1"]).status.success().then_some(()));
    assert_eq!(World::of(&pair.old, "u1"), World::of(&pair.new, "u1"));
}
