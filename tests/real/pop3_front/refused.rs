//! Logins that the backend refuses, or can't be asked about, and whose fault it believes that is.

use super::*;

#[test]
fn a_refusal_goes_on_in_the_backends_own_words() {
    let mut spec = quick(&["u1"]);
    spec.extra.push_str("passdb {\n  driver = passwd-file\n  args = {dir}/more-users\n}\n");
    let bench = Bench::with(spec, |_, _| {});
    let lines = [
        "moved:{PLAIN}pw::::::nologin reason=Go_elsewhere",
        "shut:{PLAIN}pw::::::nologin",
        "near:{PLAIN}pw::::::allow_nets=127.0.0.7/32",
    ];
    std::fs::write(bench.server.dir().join("more-users"), lines.join("\n") + "\n").unwrap();
    let cases = [
        ("u1", "wrong", "-ERR [AUTH] "),
        ("nobody", "wrong", "-ERR [AUTH] "),
        ("moved", "pw", "-ERR [AUTH] Go_elsewhere"),
        ("moved", "wrong", "-ERR [AUTH] "),
        ("shut", "pw", "-ERR [AUTH] Login disabled"),
        ("near", "pw", "-ERR [AUTH] "),
    ];
    std::thread::scope(|scope| {
        for (user, password, word) in cases {
            let bench = &bench;
            scope.spawn(move || {
                let own = Pop3::connect(bench.server.pop3_port()).try_login(user, password);
                let mut pop3 = bench.client();
                assert_eq!(pop3.try_login(user, password), own, "{user}");
                assert!(own.starts_with(word), "{user}: {own}");
                // And the connection is as good as before.
                pop3.login("u1", "pw-of-u1");
            });
        }
    });
    // The server judges by the client's address, not by ours.
    let mut near = Pop3::connect_from("127.0.0.7", bench.ferry.pop3());
    near.login("near", "pw");
}

#[test]
fn a_maildrop_that_can_not_be_opened_is_told_of_by_the_server_alone() {
    let bench = Bench::start(&["u1", "broken"]);
    // No place for a mailbox.
    std::fs::write(bench.server.mail_dir("broken"), "").unwrap();
    let [own, through] = [bench.server.pop3_port(), bench.ferry.pop3()].map(|port| {
        let mut pop3 = Pop3::connect(port);
        let answer = pop3.try_login("broken", "pw-of-broken");
        let rest = String::from_utf8(pop3.read_to_end()).unwrap();
        // Without the moment at which it happened.
        (answer, rest.split(" [20").next().unwrap().to_owned(), rest.lines().count())
    });
    assert!(own.1.starts_with("-ERR [SYS/TEMP] ") && own.2 == 1, "{own:?}");
    assert_eq!(through, own);
}

#[test]
fn a_server_that_wants_tls_first_is_a_temporary_trouble_and_no_wrong_password() {
    let mut spec = Spec { trusted: false, ..quick(&["u1"]) };
    // A connection is safe to it where both ends have one address.
    spec.extra.push_str("ssl = required\nlisten = 127.0.0.1, 127.0.0.2\n");
    let bench = Bench::with(spec, |wanted, server| {
        wanted.old_pop3 = Some(format!("pop3://127.0.0.2:{}", server.pop3_port()));
    });
    let own = Pop3::connect_from("127.0.0.3", bench.server.pop3_port()).cmd("USER u1");
    assert!(own.starts_with("-ERR [AUTH] "), "for this its user would be asked for another password: {own}");
    let said = bench.client().try_login("u1", "pw-of-u1");
    assert_eq!(said, "-ERR [SYS/TEMP] The mail server can't be reached, try again later.");
    assert!(bench.ferry.log().contains("use TLS"), "the operator is told");
}

#[test]
fn a_locked_maildrop_is_in_use() {
    let mut spec = quick(&["u1"]);
    // It waits for a lock; two seconds are enough here.
    spec.extra.push_str("protocol pop3 {\n  pop3_lock_session = yes\n  mail_max_lock_timeout = 1s\n}\n");
    let bench = Bench::with(spec, |_, _| {});
    let _one = bench.session("u1");
    let own = Pop3::connect(bench.server.pop3_port()).try_login("u1", "pw-of-u1");
    let through = bench.client().try_login("u1", "pw-of-u1");
    assert_eq!(through, own);
    assert!(through.starts_with("-ERR [IN-USE]"), "{through}");
}

#[test]
fn too_many_sessions_are_the_backends_to_count_by_client() {
    let mut spec = quick(&["u1"]);
    spec.extra.push_str("protocol pop3 {\n  mail_max_userip_connections = 1\n}\n");
    let bench = Bench::with(spec, |_, _| {});
    let _one = bench.session("u1");
    bench.wait_counted("u1", 1);
    let own = Pop3::connect(bench.server.pop3_port()).try_login("u1", "pw-of-u1");
    let through = bench.client().try_login("u1", "pw-of-u1");
    assert!(own.starts_with("-ERR [IN-USE] "), "{own:?}");
    assert_eq!(through, own);
    // From elsewhere the same user has room for one more.
    Pop3::connect_from("127.0.0.8", bench.ferry.pop3()).login("u1", "pw-of-u1");
}

#[test]
fn while_the_backend_is_down_logins_are_a_temporary_trouble_and_then_work_on_the_same_connection() {
    let mut bench = Bench::start(&["u1"]);
    let mut pop3 = bench.client();
    bench.server.stop();
    let down = "-ERR [SYS/TEMP] The mail server can't be reached, try again later.";
    assert_eq!(pop3.try_login("u1", "pw-of-u1"), down);
    assert_eq!(pop3.cmd(&format!("AUTH PLAIN {}", plain("", "u1", b"pw-of-u1"))), down);
    bench.server.start_again();
    pop3.login("u1", "pw-of-u1");
    assert_eq!(pop3.ok("STAT"), "0 0");
}

#[test]
fn the_server_sees_each_client_and_one_who_guesses_passwords_harms_nobody_else() {
    // A stock server: whoever mistypes is made to wait, and so is their address.
    let bench = Bench::with(Spec::old(&["u1", "u2"]), |_, _| {});
    std::thread::scope(|scope| {
        for guess in ["one", "two", "three"] {
            let bench = &bench;
            scope.spawn(move || {
                let mut guessing = Pop3::connect_from("127.0.0.2", bench.ferry.pop3());
                assert!(guessing.try_login("u1", guess).starts_with("-ERR [AUTH]"));
            });
        }
    });
    let mut other = Pop3::connect_from("127.0.0.3", bench.ferry.pop3());
    other.login("u2", "pw-of-u2");
    let log = bench.server.log();
    let refused = log.lines().filter(|line| line.contains("auth failed") && line.contains("rip=127.0.0.2,")).count();
    assert!(bench.logins("u2")[0].contains("rip=127.0.0.3,"), "{log}");
    // A connection is only logged when it ends, which the proxy does after each refusal.
    assert_eq!(refused, 3, "{log}");
}

#[test]
fn a_server_that_trusts_nobody_is_not_told_of_clients() {
    let bench = Bench::with(Spec { trusted: false, ..quick(&["u1"]) }, |_, _| {});
    Pop3::connect_from("127.0.0.4", bench.ferry.pop3()).login("u1", "pw-of-u1");
    assert!(bench.logins("u1")[0].contains("rip=127.0.0.1,"));
}
