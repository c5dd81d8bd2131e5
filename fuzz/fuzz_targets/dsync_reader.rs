#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| mailferry_fuzz::dsync_reader(octets));
