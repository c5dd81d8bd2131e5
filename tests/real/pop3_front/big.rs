//! Tens of megabytes through the proxy in little memory.

use super::*;

const BIG: usize = 40_000_000;

/// Two sessions' buffers are 300 KiB; the rest is the allocator's.
const GROWTH_KIB: u64 = 24 * 1024;

/// A message of [`BIG`] octets for `user`, past the proxy.
fn put_big(bench: &Bench, user: &str) -> Vec<u8> {
    let raw = large(BIG);
    let mut imap = Imap::connect(bench.server.imap_port());
    imap.login(user, bench.server.password(user));
    imap.append("INBOX", "", "", &raw);
    raw
}

/// What a session says of it from RETR to its end.
fn retrieved(raw: &[u8]) -> Vec<u8> {
    let mut said = format!("+OK {} octets\r\n", raw.len()).into_bytes();
    for line in raw.split_inclusive(|octet| *octet == b'\n') {
        if line.starts_with(b".") {
            said.push(b'.');
        }
        said.extend_from_slice(line);
    }
    said.extend_from_slice(b".\r\n+OK Logging out.\r\n");
    said
}

#[test]
fn forty_megabytes_go_through_in_little_memory() {
    let bench = Bench::start(&["u1"]);
    let wanted = retrieved(&put_big(&bench, "u1"));
    bench.session("u1").quit();
    let ca = &bench.ferry.tls().ca;
    drop(Pop3::connect_tls(bench.ferry.pop3s(), ca));
    let before = bench.ferry.peak_rss_kib();
    let ways = [bench.client(), Pop3::connect_stls(bench.ferry.pop3(), ca), Pop3::connect_tls(bench.ferry.pop3s(), ca)];
    for mut pop3 in ways {
        pop3.login("u1", "pw-of-u1");
        pop3.send(b"RETR 1\r\nQUIT\r\n");
        assert!(pop3.read_to_end() == wanted);
    }
    let grown = bench.ferry.peak_rss_kib() - before;
    assert!(grown < GROWTH_KIB, "{grown} KiB more");
}

#[test]
fn a_client_that_does_not_read_costs_little_and_hurts_nobody() {
    let bench = Bench::start(&["u1", "u2"]);
    let wanted = retrieved(&put_big(&bench, "u1"));
    let small = large(200_000);
    deliver(&bench.server, "u2", &small);
    let mut other = bench.session("u2");
    let before = bench.ferry.peak_rss_kib();
    let mut stuck: Vec<Pop3> = (0..4)
        .map(|_| {
            let mut pop3 = bench.session("u1");
            pop3.send(b"RETR 1\r\nQUIT\r\n");
            pop3
        })
        .collect();
    for pop3 in &mut stuck {
        assert!(pop3.wire().hears_within(LONG));
    }
    // Others work meanwhile, also those who log in now.
    for _ in 0..10 {
        assert!(other.body("RETR 1").ends_with(&small));
        bench.session("u1").quit();
    }
    let grown = bench.ferry.peak_rss_kib() - before;
    assert!(grown < GROWTH_KIB, "{grown} KiB more");
    // Whoever reads at last gets everything.
    assert!(stuck.remove(3).read_to_end() == wanted);
    let grown = bench.ferry.peak_rss_kib() - before;
    assert!(grown < GROWTH_KIB, "{grown} KiB more");
}
