//! `devstack chaos` can fail: an fflow that feeds a block twice is noticed.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use devstack::{Process, Workspace};

/// Includes the installation of what the machine lacks.
const END: Duration = Duration::from_secs(400);

/// A run's exit code, and what it wrote, its last line first.
async fn chaos(arguments: &[&str]) -> (Option<i32>, Vec<String>) {
    let workspace = Workspace::new("test").unwrap();
    let builder = Process::command(env!("CARGO_BIN_EXE_devstack")).arg("chaos").args(arguments);
    let builder = builder.env_remove("SEED").env_remove("CHAOS_SECONDS").env_remove("CHAOS_CLIENTS");
    let process = builder.log(workspace.log("chaos")).start().unwrap();
    let status = process.wait_exit(END).await.unwrap();
    (status.code(), process.log_tail(400).lines().rev().map(str::to_owned).collect())
}

#[tokio::test]
async fn a_block_that_ffmpeg_got_twice_fails_the_run_and_is_named_with_the_seed() {
    let (code, lines) = chaos(&["--seconds", "3", "--clients", "8", "--seed", "2", "--betray"]).await;
    assert_eq!(code, Some(1), "{lines:?}");
    assert!(lines[0].starts_with("CHAOS FAILED: ") && lines[0].ends_with("SEED=2"), "{lines:?}");
    assert!(!lines[0].contains(" 0 duplicated"), "{lines:?}");
    let named =
        |line: &String| line.starts_with("BROKEN: ") && line.contains("bytes that do not begin the file");
    assert!(lines.iter().any(named), "{lines:?}");
}

#[tokio::test]
async fn a_length_that_is_no_number_is_refused_in_the_last_line() {
    let (code, lines) = chaos(&["--seconds", "soon"]).await;
    assert_eq!(code, Some(1));
    assert!(lines[0].starts_with("CHAOS FAILED: CHAOS_SECONDS=soon is no whole number"), "{lines:?}");
}
