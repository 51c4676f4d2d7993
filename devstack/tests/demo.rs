//! `devstack demo` says in its last line how it went, and says it without bars to a file.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use devstack::{Process, Workspace};

/// Includes the installation of what the machine lacks.
const END: Duration = Duration::from_secs(300);

/// What a demo that cannot succeed writes, its last line first.
async fn failing_demo(variable: &str, value: &str) -> Vec<String> {
    let workspace = Workspace::new("test").unwrap();
    let builder = Process::command(env!("CARGO_BIN_EXE_devstack")).arg("demo").env(variable, value);
    let process = builder.log(workspace.log("demo")).start().unwrap();
    assert_eq!(process.wait_exit(END).await.unwrap().code(), Some(1));
    process.log_tail(100).lines().rev().map(str::to_owned).collect()
}

#[tokio::test]
async fn a_chunk_without_a_size_is_refused_in_the_last_line() {
    let lines = failing_demo("CHUNK", "8k").await;
    assert_eq!(lines[0], "DEMO FAILED: CHUNK=8k: not a number of bytes: invalid digit found in string");
}

#[tokio::test]
async fn a_video_that_is_not_there_is_named_in_the_last_line() {
    let lines = failing_demo("VIDEO", "/nonexistent").await;
    assert!(lines[0].starts_with("DEMO FAILED: cannot read /nonexistent"), "{lines:?}");
}

#[tokio::test]
async fn a_text_is_no_video_and_a_log_gets_no_bars() {
    let folder = tempfile::tempdir().unwrap();
    // Under this name, and at this length, ffprobe takes it for a film.
    let text = folder.path().join("lines.txt");
    std::fs::write(&text, "one line of many\n".repeat(2000)).unwrap();
    let lines = failing_demo("VIDEO", &text.to_string_lossy()).await;
    assert!(lines[0].starts_with("DEMO FAILED: ") && lines[0].contains("lines.txt: "), "{lines:?}");
    assert!(lines.iter().all(|line| !line.contains(['\u{1b}', '\r'])), "{lines:?}");
}
