//! Feeds inputs that libFuzzer makes up to `testkit::fuzz::manifests`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| uploader_v4::testkit::fuzz::manifests(data));
