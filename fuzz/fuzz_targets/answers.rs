//! Feeds inputs that libFuzzer makes up to `testkit::fuzz::answers`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| uploader_v4::testkit::fuzz::answers(data));
