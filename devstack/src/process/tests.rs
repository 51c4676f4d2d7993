//! Processes are started, signalled, waited for and never left behind.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use super::*;
use crate::wait::wait_until;

const SOON: Duration = Duration::from_secs(10);

fn shell(script: &str) -> ProcessBuilder {
    Process::command("sh").args(["-c", script])
}

fn is_alive(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

#[tokio::test]
async fn an_exit_code_and_the_log_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("out.log");
    let process = shell("echo one; echo two >&2; exit 7").log(&log).start().unwrap();
    assert_eq!(process.wait_exit(SOON).await.unwrap().code(), Some(7));
    assert_eq!(process.log_tail(10), "one\ntwo");
    assert_eq!(process.log_tail(1), "two");
    assert!(process.signal(Signal::SIGTERM).is_err());
    process.kill().await.unwrap();
}

#[tokio::test]
async fn a_signal_reaches_the_process_under_its_own_id() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("out.log");
    let script = "trap 'echo heard; exit 0' TERM; echo $$; while :; do sleep 0.01; done";
    let process = shell(script).log(&log).start().unwrap();
    wait_until("the shell has told its id", SOON, async || !process.log_tail(1).is_empty()).await.unwrap();
    assert_eq!(process.log_tail(1), process.pid().to_string());
    process.signal(Signal::SIGTERM).unwrap();
    assert!(process.wait_exit(SOON).await.unwrap().success());
    assert_eq!(process.log_tail(1), "heard");
}

#[tokio::test]
async fn dropping_kills_the_whole_group() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("out.log");
    let process = shell("sleep 600 & echo $!; wait").log(&log).start().unwrap();
    wait_until("the grandchild runs", SOON, async || !process.log_tail(1).is_empty()).await.unwrap();
    let (child, grandchild) = (process.pid(), process.log_tail(1).parse().unwrap());
    drop(process);
    assert!(!is_alive(child));
    wait_until("the grandchild is gone", SOON, async || !is_alive(grandchild)).await.unwrap();
}

#[tokio::test]
async fn a_process_outlives_the_thread_that_asked_for_it() {
    let process = std::thread::spawn(|| shell("sleep 600").start().unwrap()).join().unwrap();
    assert!(process.wait_exit(Duration::from_millis(100)).await.is_err());
    assert!(process.is_running());
}

#[tokio::test]
async fn a_deadline_ends_the_wait_and_shows_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let process = shell("echo busy; sleep 600").log(folder.path().join("out.log")).start().unwrap();
    wait_until("it has spoken", SOON, async || !process.log_tail(1).is_empty()).await.unwrap();
    let error = process.wait_exit(Duration::from_millis(10)).await.unwrap_err();
    assert!(error.to_string().contains("busy"), "{error}");
}

#[test]
fn a_missing_program_is_named() {
    let error = Process::command("no-such-program-anywhere").start().unwrap_err();
    assert!(error.to_string().contains("no-such-program-anywhere"), "{error}");
}
