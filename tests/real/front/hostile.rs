//! Those who have not logged in and want too much: refused by the standard's own means, within bounded memory, and
//! nobody else notices.

use super::*;

/// Growth of the proxy's memory that is no growth: allocator, page cache of code.
const NOISE_KIB: u64 = 6 * 1024;

/// What a client hears that keeps sending until it is cut off.
fn flooded(mut imap: Imap, start: &[u8], flood: &[u8], times: usize) -> String {
    let _ = imap.try_send(start);
    for _ in 0..times {
        if imap.try_send(flood).is_err() {
            break;
        }
    }
    let (said, closed) = imap.read_to_end(LONG);
    assert!(closed, "still connected");
    String::from_utf8_lossy(&said).into_owned()
}

#[test]
fn over_long_input_before_login_is_refused_and_costs_nothing() {
    let bench = Bench::start(&["u1"]);
    let ca = &bench.ferry.tls().ca;
    let mut other = bench.session("u1");
    let mut fresh = bench.client();
    drop(Imap::connect_tls(bench.ferry.imaps(), ca));
    let before = bench.ferry.peak_rss_kib();
    let junk = vec![b'x'; 1 << 16];
    let nuls = vec![0; 1 << 16];
    let blanks = vec![b' '; 1 << 16];
    let floods: [(&[u8], &[u8], &str); 6] = [
        (b"a LOGIN u1 ", &junk, "a BAD [TOOBIG] "),
        (b"", &junk, "* BYE "),
        (b"a ", &nuls, "* BYE "),
        (b"", &blanks, "* BYE "),
        (b"a AUTHENTICATE PLAIN ", &junk, "a BAD [TOOBIG] "),
        (b"b LOGIN {100000000+}\r\n", &junk, "b BAD [TOOBIG] "),
    ];
    for (start, flood, wanted) in floods {
        // 64 MB: far more than the buffers of two sockets take.
        for imap in [bench.client(), Imap::connect_tls(bench.ferry.imaps(), ca)] {
            let said = flooded(imap, start, flood, 1024);
            let last = said.lines().last().unwrap_or_default();
            assert!(said.contains(wanted) && last.starts_with("* BYE "), "{start:?}: {said:?}");
        }
    }
    let mut imap = bench.client();
    let tag = imap.start("AUTHENTICATE PLAIN");
    assert!(say(&mut imap).starts_with("+ "));
    let said = flooded(imap, b"", &junk, 1024);
    assert!(said.starts_with(&format!("{tag} BAD [TOOBIG] ")) && said.contains("\r\n* BYE "), "{said}");
    other.ok("NOOP");
    fresh.login("u1", "pw-of-u1");
    let grown = bench.ferry.peak_rss_kib() - before;
    assert!(grown < NOISE_KIB, "{grown} KiB more");
}

#[test]
fn over_large_synchronising_literals_before_login_are_refused_and_the_client_goes_on() {
    let bench = Bench::start(&["u1"]);
    let mut imap = bench.client();
    for command in [
        "LOGIN {5000}",
        "LOGIN {18446744073709551615}",
        "LOGIN u1 {4097}",
        "LOGIN {2+}\r\nu1 {100000}",
        "ID ({5000}",
        "APPEND INBOX {5}",
        "SELECT {5}",
    ] {
        let (tagged, untagged) = imap.cmd(command);
        let wanted = if command.contains("{5}") { "BAD " } else { "NO [TOOBIG] " };
        assert!(tagged.starts_with(wanted) && untagged.is_empty(), "{command}: {tagged}");
    }
    imap.login("u1", "pw-of-u1");
    assert_eq!(bench.logins("u1").len(), 1);
}

#[test]
fn endless_faults_end_the_connection() {
    let bench = Bench::start(&["u1"]);
    let said = flooded(bench.client(), b"", &b"x y z\r\n".repeat(9000), 1000);
    let last = said.lines().last().unwrap();
    assert!(said.lines().count() < 100 && last.starts_with("* BYE "), "{said}");
    // A wrong password is a fault like any other.
    let said = flooded(bench.client(), &b"x y z\r\n".repeat(19), b"a LOGIN u1 wrong\r\n", 3);
    assert!(said.lines().count() == 21 && said.lines().last().unwrap().starts_with("* BYE "), "{said}");
    bench.session("u1").ok("NOOP");
}

#[test]
fn many_half_finished_logins_cost_a_fixed_buffer_each() {
    const CLIENTS: usize = 200;
    let bench = Bench::start(&["u1"]);
    bench.session("u1").ok("LOGOUT");
    let before = bench.ferry.peak_rss_kib();
    let mut clients: Vec<Imap> = (0..CLIENTS).map(|_| bench.client()).collect();
    for imap in &mut clients {
        let literal = "x".repeat(4096);
        imap.send(format!("a LOGIN {{4096+}}\r\n{literal} {{4096+}}\r\n{literal} \"{}", "y".repeat(7000)).as_bytes());
    }
    bench.session("u1").ok("NOOP");
    let grown = bench.ferry.peak_rss_kib() - before;
    let each = 40;
    assert!(grown < NOISE_KIB + CLIENTS as u64 * each, "{grown} KiB more");
    // They are still there, and still nothing but half a login.
    clients[0].send(b"\"\r\n");
    assert!(say(&mut clients[0]).starts_with("a BAD "));
}

#[test]
fn what_is_no_tls_on_the_tls_port_is_closed() {
    let bench = Bench::start(&["u1"]);
    let mut tls = Imap::connect_tls(bench.ferry.imaps(), &bench.ferry.tls().ca);
    let mut imap = Imap::connect_silently("127.0.0.1", bench.ferry.imaps());
    let _ = imap.try_send(&message(100_000));
    let (said, closed) = imap.read_to_end(LONG);
    // A TLS alert at most.
    assert!(closed && said.len() < 10, "{said:?}");
    tls.login("u1", "pw-of-u1");
}
