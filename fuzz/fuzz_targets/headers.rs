//! Feeds inputs that libFuzzer makes up to `testkit::fuzz::headers`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| uploader_v4::testkit::fuzz::headers(data));
