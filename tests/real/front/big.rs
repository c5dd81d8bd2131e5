//! 60 MB through the proxy in little memory.

use super::*;

const BIG: usize = 60_000_000;

/// Two sessions' buffers are 200 KiB; the rest is the allocator's.
const GROWTH_KIB: u64 = 24 * 1024;

#[test]
fn sixty_megabytes_go_through_both_ways_in_little_memory() {
    let bench = Bench::start(&["u1"]);
    let mut imap = Imap::connect_tls(bench.ferry.imaps(), &bench.ferry.tls().ca);
    imap.login("u1", "pw-of-u1");
    imap.append("INBOX", "", "", &message(1000));
    let before = bench.ferry.peak_rss_kib();
    let big = message(BIG);
    assert_eq!(imap.append("INBOX", "", "", &big), Some(2));
    imap.select("INBOX");
    assert!(imap.body(2).unwrap() == big, "through TLS");
    let mut clear = bench.session("u1");
    clear.select("INBOX");
    assert!(clear.body(2).unwrap() == big, "in clear");
    let grown = bench.ferry.peak_rss_kib() - before;
    assert!(grown < GROWTH_KIB, "{grown} KiB more");
}

#[test]
fn a_client_that_does_not_read_costs_little_and_hurts_nobody() {
    let bench = Bench::start(&["u1", "u2"]);
    let big = message(BIG);
    bench.direct("u1").append("INBOX", "", "", &big);
    let mut other = bench.session("u2");
    let before = bench.ferry.peak_rss_kib();
    let mut stuck: Vec<(Imap, String)> = (0..4)
        .map(|_| {
            let mut imap = bench.session("u1");
            imap.select("INBOX");
            let tag = imap.start("FETCH 1 (BODY.PEEK[])");
            (imap, tag)
        })
        .collect();
    for (imap, _) in &mut stuck {
        assert!(imap.hears_within(LONG));
    }
    // Others work meanwhile, also those who log in now.
    for round in 0..10 {
        other.append("INBOX", "", "", &message(200_000));
        other.select("INBOX");
        assert_eq!(other.body(round + 1).unwrap().len(), message(200_000).len());
        bench.session("u1").ok("LOGOUT");
    }
    let grown = bench.ferry.peak_rss_kib() - before;
    assert!(grown < GROWTH_KIB, "{grown} KiB more");
    // Whoever reads at last gets everything.
    let (imap, tag) = &mut stuck[3];
    let (tagged, untagged) = imap.finish(tag);
    assert!(tagged.starts_with("OK ") && crate::lab::imap::literal(&untagged[0]).unwrap() == big, "{tagged}");
    let grown = bench.ferry.peak_rss_kib() - before;
    assert!(grown < GROWTH_KIB, "{grown} KiB more");
}
