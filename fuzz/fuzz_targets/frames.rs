//! Feeds inputs that libFuzzer makes up to `testkit::fuzz::frames`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| uploader_v4::testkit::fuzz::frames(data));
