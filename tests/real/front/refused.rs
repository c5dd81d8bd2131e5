//! Logins that the backend refuses, or can't be asked about, and whose fault it believes that is.

use super::*;

/// A second password file, for users with fields that a plain one has not.
const MORE_USERS: &str = "passdb {\n  driver = passwd-file\n  args = {dir}/more-users\n}\n";

#[test]
fn a_refusal_goes_on_in_the_backends_own_words() {
    let mut spec = quick(&["u1"]);
    spec.extra.push_str(MORE_USERS);
    let bench = Bench::with(spec, |_| {});
    let lines = [
        "moved:{PLAIN}pw::::::nologin reason=Go_elsewhere",
        "shut:{PLAIN}pw::::::nologin",
        "near:{PLAIN}pw::::::allow_nets=127.0.0.7/32",
    ];
    fs::write(bench.server.dir().join("more-users"), lines.join("\n") + "\n").unwrap();
    let cases = [
        ("u1", "wrong", "NO [AUTHENTICATIONFAILED] "),
        ("nobody", "wrong", "NO [AUTHENTICATIONFAILED] "),
        ("moved", "pw", "NO [CONTACTADMIN] Go_elsewhere"),
        ("moved", "wrong", "NO [AUTHENTICATIONFAILED] "),
        ("shut", "pw", "NO "),
        ("near", "pw", "NO "),
    ];
    std::thread::scope(|scope| {
        for (user, password, word) in cases {
            let bench = &bench;
            scope.spawn(move || {
                let own = Imap::connect(bench.server.imap_port()).try_login(user, password);
                assert!(own.starts_with(word), "{user}: {own}");
                let mut imap = bench.client();
                assert_eq!(imap.try_login(user, password), own, "{user}");
                // And the connection is as good as before.
                imap.login("u1", "pw-of-u1");
            });
        }
    });
    // The server judges by the client's address, not by ours.
    let mut near = Imap::connect_from("127.0.0.7", bench.ferry.imap());
    near.login("near", "pw");
}

#[test]
fn a_server_that_accepts_the_password_and_then_fails_is_quoted_too() {
    let mut spec = quick(&["u1"]);
    spec.extra.push_str("protocol imap {\n  mail_max_userip_connections = 1\n}\n");
    let bench = Bench::with(spec, |_| {});
    let _one = bench.session("u1");
    let own = Imap::connect(bench.server.imap_port()).cmd("LOGIN u1 pw-of-u1");
    let through = bench.client().cmd("LOGIN u1 pw-of-u1");
    assert!(!own.0.starts_with("OK"), "{own:?}");
    assert_eq!(through, own);
    // From elsewhere the same user has room for one more.
    Imap::connect_from("127.0.0.8", bench.ferry.imap()).login("u1", "pw-of-u1");
}

#[test]
fn while_the_backend_is_down_logins_are_unavailable_and_then_work_on_the_same_connection() {
    let mut bench = Bench::start(&["u1"]);
    let mut imap = bench.client();
    bench.server.stop();
    for command in [login_command("u1", "pw-of-u1"), format!("AUTHENTICATE PLAIN {}", plain("", "u1", b"pw-of-u1"))] {
        let (tagged, untagged) = imap.cmd(&command);
        assert!(tagged.starts_with("NO [UNAVAILABLE] ") && untagged.is_empty(), "{tagged}");
    }
    imap.ok("NOOP");
    bench.server.start_again();
    imap.login("u1", "pw-of-u1");
    imap.ok("SELECT INBOX");
}

#[test]
fn a_backend_that_is_down_is_left_alone_and_taken_up_again_when_it_is_back() {
    let mut bench = Bench::start(&["u1"]);
    bench.server.stop();
    let mut imap = bench.client();
    let refused = |imap: &mut Imap| {
        let said = imap.try_login("u1", "pw-of-u1");
        assert!(said.starts_with("NO [UNAVAILABLE] "), "{said}");
    };
    for _ in 0..5 {
        refused(&mut imap);
    }
    wait_logged(&bench.ferry, "left alone for 1 s, since connections to it fail: ");
    // (The connection has some faults to its name by now.)
    let mut imap = bench.client();
    wait_for("a login that is not even tried", LONG, || {
        refused(&mut imap);
        imap = bench.client();
        bench.ferry.log().contains("not tried: ").then_some(())
    });
    bench.server.start_again();
    wait_for("the side to be tried again", LONG, || {
        imap = bench.client();
        imap.try_login("u1", "pw-of-u1").starts_with("OK ").then_some(())
    });
    wait_logged(&bench.ferry, "old side, IMAP 127.0.0.1:");
    assert!(bench.ferry.log().contains("can be reached again"));
    for _ in 0..3 {
        bench.session("u1").ok("NOOP");
    }
}

#[test]
fn the_server_sees_each_client_and_one_who_guesses_passwords_harms_nobody_else() {
    // A stock server: whoever mistypes is made to wait, and so is their address.
    let spec = Spec { trusted: true, ..Spec::old(&["u1", "u2"]) };
    let bench = Bench::with(spec, |_| {});
    std::thread::scope(|scope| {
        for guess in ["one", "two", "three"] {
            let bench = &bench;
            scope.spawn(move || {
                let mut guessing = Imap::connect_from("127.0.0.2", bench.ferry.imap());
                assert!(guessing.try_login("u1", guess).starts_with("NO [AUTHENTICATIONFAILED]"));
            });
        }
    });
    let mut others = [
        Imap::connect_from("127.0.0.3", bench.ferry.imap()),
        Imap::connect_tls_from("127.0.0.4", bench.ferry.imaps(), &bench.ferry.tls().ca),
    ];
    for imap in &mut others {
        imap.login("u2", "pw-of-u2");
    }
    let ours = bench.ferry.log();
    let seen = bench.logins("u2");
    for (imap, line) in others.iter().zip(&seen) {
        let client = imap.local_addr();
        assert!(line.contains(&format!("rip={}, ", client.ip())), "{line}");
        let session = line.split("session=<").nth(1).and_then(|rest| rest.split('>').next()).unwrap();
        // Our own log ties that session to the client's address and port.
        let tied = format!("id=\"{session}\" peer={client}");
        assert!(!session.is_empty() && ours.contains(&tied), "{tied} is not in\n{ours}");
    }
    let log = bench.server.log();
    let failed: Vec<&str> = log.lines().filter(|line| line.contains("auth failed")).collect();
    assert!(!failed.is_empty() && failed.iter().all(|line| line.contains("rip=127.0.0.2, ")), "{failed:#?}");
    assert!(
        !log.lines().any(|line| line.contains("user=<u") && line.contains("rip=127.0.0.1, ")),
        "nobody came from the proxy's own address:\n{log}"
    );
}
