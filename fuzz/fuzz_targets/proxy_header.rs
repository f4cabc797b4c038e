#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| cosgate::fuzzing::proxy_header(input));
