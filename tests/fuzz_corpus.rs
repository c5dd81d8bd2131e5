//! The fuzz targets' checks over their seeds: what real clients and servers said, and what has once broken something. Each
//! seed is read whole, cut off, and with small things changed, the same ones in every run.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

// (It is a crate of its own there.)
#[allow(unreachable_pub)]
#[path = "../fuzz/checks.rs"]
mod checks;

use std::fs;
use std::path::PathBuf;

use checks::CHECKS;

/// Cut-off seeds, and changed ones, of each seed.
const VARIANTS: u64 = 60;

fn fuzz() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

/// The seeds of a target, with their names.
fn seeds(target: &str) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(fuzz().join("seeds").join(target)).unwrap_or_else(|error| panic!("{target}: {error}"));
    let mut seeds: Vec<_> = entries
        .map(|entry| {
            let path = entry.unwrap().path();
            (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read(&path).unwrap())
        })
        .collect();
    seeds.sort();
    seeds
}

/// Numbers that look like chance and are the same in every run (SplitMix64).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % u64::try_from(end.max(1)).unwrap()).unwrap()
    }
}

/// Octets that mean something to some parser.
const LOADED: &[u8] = b"\r\n{}+*\" ()\\.~\0\x01\x02\x1e\xff0-9a=";

/// Puts one small thing in disorder.
fn disturb(octets: &mut Vec<u8>, other: &[u8], numbers: &mut Numbers) {
    let at = numbers.below(octets.len() + 1);
    match numbers.below(6) {
        0 => octets.truncate(at),
        1 => octets.insert(at, LOADED[numbers.below(LOADED.len())]),
        2 if at < octets.len() => octets[at] = LOADED[numbers.below(LOADED.len())],
        3 if at < octets.len() => drop(octets.remove(at)),
        4 => {
            let from = numbers.below(other.len() + 1);
            let piece = other[from..other.len().min(from + numbers.below(80))].to_vec();
            octets.splice(at..at, piece);
        }
        // Numbers that a length or a count may be.
        _ => {
            let number = ["18446744073709551616", "4294967296", "-1", "{4294967295}", "{0+}"][numbers.below(5)];
            octets.splice(at..at, number.bytes());
        }
    }
}

fn run(target: &str) {
    let check = CHECKS.iter().find(|(name, _)| *name == target).unwrap().1;
    let seeds = seeds(target);
    assert!(!seeds.is_empty(), "{target} has no seeds");
    check(b"");
    for (number, (name, seed)) in seeds.iter().enumerate() {
        let numbered = std::panic::catch_unwind(|| check(seed));
        assert!(numbered.is_ok(), "{target}: the seed {name}");
        for variant in 0..VARIANTS {
            let mut numbers = Numbers(variant << 32 | u64::try_from(number).unwrap());
            let mut octets = seed.clone();
            for _ in 0..=numbers.below(4) {
                let other = &seeds[numbers.below(seeds.len())].1;
                disturb(&mut octets, other, &mut numbers);
            }
            let checked = std::panic::catch_unwind(|| check(&octets));
            assert!(checked.is_ok(), "{target}: {name}, variant {variant}: {}", octets.escape_ascii());
        }
    }
}

macro_rules! targets {
    ($($target:ident)*) => {
        $(
            #[test]
            fn $target() {
                run(stringify!($target));
            }
        )*
        const RUN: &[&str] = &[$(stringify!($target)),*];
    };
}

targets! {
    imap_framer imap_prelogin imap_response imap_relay pop3_prelogin pop3_relay pop3_answers sasl proxy sieve doveadm dsync_reader
    dsync_fields
}

#[test]
fn every_check_is_a_fuzz_target_with_seeds_and_runs_here() {
    let manifest = fs::read_to_string(fuzz().join("Cargo.toml")).unwrap();
    for (name, _) in CHECKS {
        assert!(RUN.contains(&name), "{name} is not run");
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name} is no target");
        let target = fs::read_to_string(fuzz().join(format!("fuzz_targets/{name}.rs"))).unwrap();
        assert!(target.contains(&format!("mailferry_fuzz::{name}(")), "{target}");
    }
    assert_eq!(RUN.len(), CHECKS.len());
    assert_eq!(manifest.matches("[[bin]]").count(), CHECKS.len());
}
