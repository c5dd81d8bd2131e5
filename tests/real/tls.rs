//! A side that is reached over TLS. Dovecot writes pipelined answers in another order there as soon as its output is full:
//! what is asked for in one order must not be believed to come in it.

use crate::copy::{Pair, assert_equal_everywhere, sync};
use crate::lab::{Ferry, FerrySpec, nasty};

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
