//! The table is sound, and what is written appears under its name.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::HashSet;

use super::*;

#[test]
fn names_are_unique_and_tell_their_unit() {
    let names: HashSet<&str> = ALL.iter().map(|metric| metric.name).collect();
    assert_eq!(names.len(), ALL.len());
    for metric in ALL {
        let total = metric.name.ends_with("_total");
        assert_eq!(total, matches!(metric.kind, Kind::Counter), "{}", metric.name);
        let stem = metric.name.trim_end_matches("_total");
        match metric.unit {
            metrics::Unit::Bytes => assert!(stem.ends_with("_bytes"), "{stem}"),
            metrics::Unit::Seconds => assert!(stem.ends_with("_seconds"), "{stem}"),
            _ => assert!(!stem.ends_with("_bytes") && !stem.ends_with("_seconds"), "{stem}"),
        }
        assert!(metric.help.ends_with('.'), "{}", metric.name);
    }
}

#[test]
fn buckets_grow() {
    for metric in ALL {
        if let Kind::Histogram(buckets) = metric.kind {
            assert!(buckets.is_sorted() && !buckets.is_empty(), "{}", metric.name);
        }
    }
}

#[test]
fn what_is_written_from_any_thread_appears_under_its_name() {
    const REASON: &str = "written by this test";
    install().unwrap();
    let refused = || chunk_ended(ChunkEnd::Refused(REASON), Duration::from_secs(1));
    let elsewhere = std::thread::spawn(refused);
    refused();
    refused();
    elsewhere.join().unwrap();
    feed_moved(None, Some(REASON));
    feed_moved(None, Some(REASON));
    feed_moved(Some(REASON), None);
    let text = render().unwrap();
    for line in [
        format!("{}{{outcome=\"refused\",reason=\"{REASON}\"}} 3", CHUNKS_ENDED.name),
        format!("{}{{state=\"{REASON}\"}} 1", FEEDS.name),
    ] {
        assert!(text.lines().any(|one| one == line), "{line} in\n{text}");
    }
}
