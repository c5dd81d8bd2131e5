//! What the proxy itself says to a client that never listens is bounded like everything else.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use crate::copy::Pair;
use crate::lab::{Ferry, FerrySpec, Imap};

#[test]
fn a_client_that_sends_refused_commands_and_never_reads_costs_bounded_memory() {
    let pair = Pair::start(&["u1"]);
    let ferry = Ferry::start(FerrySpec { enroll: "none", ..FerrySpec::between(&pair.old, &pair.new) });
    let mut client = TcpStream::connect(("127.0.0.1", ferry.imap())).unwrap();
    client.write_all(format!("a LOGIN u1 {}\r\n", pair.old.password("u1")).as_bytes()).unwrap();
    let mut said = Vec::new();
    while !said.windows(5).any(|five| five == b"a OK ") {
        let mut octets = [0; 512];
        let count = client.read(&mut octets).unwrap();
        said.extend_from_slice(&octets[..count]);
    }
    let before = ferry.rss_kib();
    // Each is answered by the proxy alone, with more octets than it has.
    let burst = b"a COMPRESS DEFLATE\r\n".repeat(10_000);
    client.set_write_timeout(Some(Duration::from_secs(2))).unwrap();
    let mut sent = 0;
    while sent < 400 && client.write_all(&burst).is_ok() {
        sent += 1;
    }
    assert!(sent < 400, "the client is no longer read");
    let grown = ferry.rss_kib().saturating_sub(before);
    assert!(grown < 8 * 1024, "{grown} KiB after {sent} bursts");
    let mut other = Imap::connect(ferry.imap());
    other.login("u1", pair.old.password("u1"));
    other.ok("NOOP");
}
