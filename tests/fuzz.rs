//! The fuzz targets as ordinary tests: every stored input, and some random ones. `make fuzz` makes up new ones.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use uploader_v4::testkit::fuzz::{self, TARGETS};

fn corpus(target: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn every_stored_input_of_every_target_is_borne() {
    for (name, target) in TARGETS {
        let files = corpus(name);
        assert!(files.len() >= 10, "{name} has {} inputs", files.len());
        for file in files {
            let input = fs::read(&file).unwrap();
            let borne = catch_unwind(AssertUnwindSafe(|| target(&input)));
            assert!(borne.is_ok(), "{} is not", file.display());
        }
    }
}

#[test]
fn every_target_has_its_program_and_no_program_is_without_a_target() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/fuzz_targets");
    let stem = |entry: std::io::Result<fs::DirEntry>| {
        entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned()
    };
    let mut programs: Vec<String> = fs::read_dir(folder).unwrap().map(stem).collect();
    programs.sort();
    assert_eq!(programs, TARGETS.map(|(name, _)| name));
}

/// Cuts, flips, other sessions' files and zeroes, as `records` reads them: nothing that somebody wrote on purpose.
fn mishaps() -> impl Strategy<Value = Vec<u8>> {
    let mishap = (0..4u8, any::<[u8; 4]>()).prop_map(|(kind, [file, high, low, bit])| {
        let flip = if kind == 1 { Some(bit) } else { None };
        [(kind << 1) | (file & 1), high, low].into_iter().chain(flip).collect::<Vec<u8>>()
    });
    let layout = (0..6u8).prop_flat_map(|count| {
        prop::collection::vec(any::<u8>(), usize::from(count) + 1)
            .prop_map(move |sizes| [vec![count], sizes].concat())
    });
    (layout, prop::collection::vec(mishap, 1..4))
        .prop_map(|(layout, mishaps)| [layout, mishaps.concat()].concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn a_spool_file_that_anything_befell_gives_its_own_bytes_or_an_error(input in mishaps()) {
        fuzz::records(&input);
    }

    #[test]
    fn any_bytes_are_borne(input in prop::collection::vec(any::<u8>(), 0..600)) {
        TARGETS.iter().for_each(|(_, target)| target(&input));
    }
}
