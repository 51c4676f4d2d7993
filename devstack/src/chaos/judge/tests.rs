//! Every check of the verdict can fail.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use bytes::Bytes;
use peers::recording::FlowState;

use super::*;
use crate::chaos::fault::Fault;

const TOTAL: u64 = 1000;
const SEED: u64 = 9;

fn seconds(number: u64) -> Duration {
    Duration::from_secs(number)
}

fn upload(end: End) -> Upload {
    Upload {
        session: "s".to_owned(),
        video: "v".to_owned(),
        flow: "f".to_owned(),
        total: TOTAL,
        content: Content::Noise(SEED),
        line: 0,
        chunk: 1,
        acks: vec![seconds(2)],
        acked: if end == End::Whole { TOTAL } else { 400 },
        begun: seconds(1),
        end: Some(end),
    }
}

fn flow(name: &str, bytes: &[u8], finished: bool) -> RecordedFlow {
    RecordedFlow {
        name: name.to_owned(),
        replica: 1,
        state: if finished { FlowState::Finished } else { FlowState::Lost },
        bytes: bytes.len() as u64,
        sha256: sha256(bytes),
        body: Some(Bytes::copy_from_slice(bytes)),
        pushes: 1,
        concurrent_pushes_seen: false,
        finish_calls: u32::from(finished) as usize,
        finished,
        saving_path: None,
        delete_calls: 0,
        deleted: false,
    }
}

fn truth(state: &str, committed: u64, statuses: Option<(&str, &str)>) -> Truth {
    let row = Row { state: state.to_owned(), committed, cleaned: true, ..Row::default() };
    let mut truth = Truth::default();
    truth.sessions.insert("s".to_owned(), row);
    if let Some((flow, video)) = statuses {
        truth.flows.insert("f".to_owned(), (flow.to_owned(), video.to_owned()));
    }
    truth
}

fn distributed() -> Truth {
    truth("DONE", TOTAL, Some(("DISTRIBUTED", "DISTRIBUTED")))
}

fn verdict(upload: Upload, truth: &Truth, flows: &[RecordedFlow], struck: &[Struck]) -> Verdict {
    judge(&Evidence { uploads: &[upload], truth, flows, struck, consuming: &[] })
}

fn cut() -> (Upload, Vec<Struck>) {
    let why = "no reply to the chunk in time".to_owned();
    let end = End::Broken { sent: seconds(3), known: seconds(28), status: Some(504), why };
    let fault = Fault::RestartBroker { kill: false };
    (upload(end), vec![Struck { fault, from: seconds(3), to: Some(seconds(9)) }])
}

#[test]
fn a_whole_upload_with_a_whole_generation_is_distributed() {
    let file = noise(SEED, TOTAL);
    let flows = [flow("s", &file[..300], false), flow("s~2", &file, true)];
    let verdict = verdict(upload(End::Whole), &distributed(), &flows, &[]);
    assert_eq!(verdict.outcomes, [Outcome::Distributed]);
    assert!(verdict.lost.is_empty() && verdict.duplicated.is_empty() && verdict.hung.is_empty());
    assert_eq!(verdict.bytes, TOTAL);
}

#[test]
fn a_finished_generation_with_a_hole_or_a_repeated_byte_is_wrong() {
    let file = noise(SEED, TOTAL);
    let hole = [&file[..300], &file[301..]].concat();
    let twice = [&file[..300], &file[299..]].concat();
    for bytes in [hole, twice, file[..999].to_vec()] {
        let verdict = verdict(upload(End::Whole), &distributed(), &[flow("s", &bytes, true)], &[]);
        assert_eq!(verdict.outcomes, [Outcome::Wrong]);
        assert!(!verdict.duplicated.is_empty());
    }
}

#[test]
fn a_dead_generation_that_got_a_byte_twice_is_wrong_too() {
    let file = noise(SEED, TOTAL);
    let twice = [&file[..300], &file[299..400]].concat();
    let flows = [flow("s", &twice, false), flow("s~2", &file, true)];
    assert_eq!(verdict(upload(End::Whole), &distributed(), &flows, &[]).duplicated.len(), 1);
}

#[test]
fn a_name_that_was_created_twice_is_wrong() {
    let file = noise(SEED, TOTAL);
    let flows = [flow("s", &file[..300], false), flow("s", &file, true)];
    assert_eq!(verdict(upload(End::Whole), &distributed(), &flows, &[]).duplicated.len(), 1);
}

#[test]
fn an_acked_upload_that_is_not_distributed_is_lost() {
    let file = noise(SEED, TOTAL);
    let done = [flow("s", &file, true)];
    for (state, statuses) in [
        ("EXPIRED", None),
        ("SEALED", Some(("PROCESSING", "UPLOADING"))),
        ("DONE", Some(("DISTRIBUTED", "UPLOADING"))),
        ("FAILED", Some(("HIDDEN", "BLOCKED"))),
    ] {
        let verdict = verdict(upload(End::Whole), &truth(state, TOTAL, statuses), &done, &[]);
        assert_eq!((verdict.outcomes, verdict.lost.len()), (vec![Outcome::Wrong], 1), "{state}");
    }
    let never_finished = [flow("s", &file, false)];
    assert_eq!(verdict(upload(End::Whole), &distributed(), &never_finished, &[]).lost.len(), 1);
}

#[test]
fn three_generations_that_died_explain_a_failure() {
    let file = noise(SEED, TOTAL);
    let failed = truth("FAILED", TOTAL, Some(("HIDDEN", "BLOCKED")));
    let flows: Vec<_> = ["s", "s~2", "s~3"].iter().map(|name| flow(name, &file[..100], false)).collect();
    assert_eq!(verdict(upload(End::Whole), &failed, &flows, &[]).outcomes, [Outcome::Failed]);
    assert_eq!(verdict(upload(End::Whole), &failed, &flows[..2], &[]).outcomes, [Outcome::Wrong]);
}

#[test]
fn an_upload_that_a_restart_of_the_broker_cut_expires() {
    let (upload, struck) = cut();
    let verdict = verdict(upload, &truth("EXPIRED", 400, None), &[], &struck);
    assert_eq!(verdict.outcomes, [Outcome::Cut("cut by broker")]);
}

#[test]
fn a_cut_upload_may_be_given_up_before_it_expires() {
    let ((upload, struck), file) = (cut(), noise(SEED, TOTAL));
    let failed = truth("FAILED", 400, Some(("HIDDEN", "BLOCKED")));
    let flows: Vec<_> = ["s", "s~2", "s~3"].iter().map(|name| flow(name, &file[..100], false)).collect();
    assert_eq!(verdict(upload.clone(), &failed, &flows, &struck).outcomes, [Outcome::Failed]);
    assert_eq!(verdict(upload, &failed, &flows[..2], &struck).outcomes, [Outcome::Wrong]);
}

#[test]
fn a_cut_upload_that_lost_acked_bytes_or_did_not_expire_is_wrong() {
    let (upload, struck) = cut();
    assert_eq!(verdict(upload.clone(), &truth("EXPIRED", 399, None), &[], &struck).lost.len(), 1);
    assert_eq!(verdict(upload.clone(), &truth("OPEN", 400, None), &[], &struck).hung.len(), 1);
    assert_eq!(verdict(upload, &Truth::default(), &[], &struck).hung.len(), 1);
}

#[test]
fn a_cut_upload_that_outlived_its_time_is_wrong() {
    let (upload, struck) = cut();
    let mut late = truth("EXPIRED", 400, None);
    late.sessions.get_mut("s").unwrap().outlived_ms = 90_000;
    assert_eq!(verdict(upload, &late, &[], &struck).hung.len(), 1);
}

#[test]
fn an_end_without_a_fault_or_no_end_at_all_is_hung() {
    let (cut, _) = cut();
    assert_eq!(verdict(cut, &truth("EXPIRED", 400, None), &[], &[]).hung.len(), 1);
    let endless = Upload { end: None, ..upload(End::Whole) };
    assert_eq!(verdict(endless, &truth("OPEN", 400, None), &[], &[]).hung.len(), 1);
}
