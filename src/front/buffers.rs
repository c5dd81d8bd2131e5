//! Large buffers for octets on their way, lent while some flow: a session that is quiet has none.

use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::BytesMut;

/// Octets that a buffer has room for.
pub(super) const LARGE: usize = 64 * 1024;

/// Buffers kept for whoever wants one next. Above that they are made and freed: so much flows at once only rarely.
const KEPT: usize = 16;

static FREE: Mutex<Vec<BytesMut>> = Mutex::new(Vec::new());

/// An empty buffer with room for [`LARGE`] octets.
pub(super) fn lend() -> BytesMut {
    free().pop().unwrap_or_else(|| BytesMut::with_capacity(LARGE))
}

/// Gives a buffer back that holds nothing any more. It may be any; only a large one is kept.
pub(super) fn take_back(mut buffer: BytesMut) {
    buffer.clear();
    if buffer.try_reclaim(LARGE) {
        let mut free = free();
        if free.len() < KEPT {
            free.push(buffer);
        }
    }
}

fn free() -> MutexGuard<'static, Vec<BytesMut>> {
    FREE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use bytes::Buf as _;

    use super::*;

    #[test]
    fn what_is_lent_is_empty_and_large_whatever_came_back() {
        let mut used = lend();
        used.extend_from_slice(&[b'x'; LARGE]);
        used.advance(LARGE - 10);
        take_back(used);
        take_back(BytesMut::from(&b"small"[..]));
        let many: Vec<BytesMut> = (0..2 * KEPT).map(|_| lend()).collect();
        assert!(many.iter().all(|buffer| buffer.is_empty() && buffer.capacity() >= LARGE));
        many.into_iter().for_each(take_back);
        assert!(free().len() <= KEPT);
    }
}
