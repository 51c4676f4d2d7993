//! The recording fflow keeps the contract, remembers, and fails as scripted.

use std::time::Duration;

use actix_web::http::Method;
use peers::recording::{CallKind, Fault, FaultRule, FlowState, RecordingFflow, RecordingOptions};
use sha2::{Digest, Sha256};

use crate::client::{self, delete, send};

const SOON: Duration = Duration::from_secs(10);

fn start(options: RecordingOptions) -> RecordingFflow {
    RecordingFflow::start(options).unwrap()
}

async fn create(fflow: &RecordingFflow, name: &str) -> String {
    client::create(&fflow.base_url(), name).await
}

async fn push(flow: &str, bytes: impl Into<Vec<u8>>) -> Option<u16> {
    let answer = send(Method::POST, &format!("{flow}/push"), "application/octet-stream", bytes).await;
    answer.map(|answer| answer.0)
}

async fn finish(flow: &str, path: &str) -> Option<u16> {
    client::finish(flow, path, Duration::from_secs(2)).await
}

#[actix_web::test]
async fn a_flow_is_created_fed_finished_and_found_on_holder() {
    let fflow = start(RecordingOptions::default());
    let flow = create(&fflow, "a~1").await;
    assert_eq!(flow, format!("{}/r1/a~1", fflow.base_url()));
    assert_eq!(push(&flow, "hello ").await, Some(201));
    assert_eq!(push(&flow, "world").await, Some(201));
    assert_eq!(finish(&flow, "/v/f").await, Some(201));
    let recorded = fflow.flow("a~1").unwrap();
    assert_eq!((recorded.bytes, recorded.pushes, recorded.finish_calls), (11, 2, 1));
    assert_eq!(recorded.body.unwrap(), "hello world");
    let digest: String = Sha256::digest("hello world").iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(recorded.sha256, digest);
    assert_eq!(recorded.saving_path.as_deref(), Some("/v/f"));
    assert!(recorded.finished && !recorded.concurrent_pushes_seen);
    for path in fflow.holder_files() {
        let (status, body) =
            send(Method::GET, &format!("{}/{path}", fflow.holder_url()), "a/b", "").await.unwrap();
        assert!(status == 200 && !body.is_empty(), "{path}: {status}");
    }
    assert!(fflow.holder_files().contains(&"v/f/dash/chunk-stream0-00002.m4s".to_owned()));
    let kinds: Vec<_> = fflow.calls().iter().map(|call| (call.kind, call.status)).collect();
    assert_eq!(kinds.first(), Some(&(CallKind::Create, Some(201))));
    assert_eq!(kinds.last(), Some(&(CallKind::Finish, Some(201))));
    assert_eq!(finish(&flow, "/v/f").await, Some(404));
}

#[actix_web::test]
async fn the_balancer_takes_turns_and_a_name_is_known_to_its_own_replica_only() {
    let fflow = start(RecordingOptions { replicas: 2, ..Default::default() });
    let base = fflow.base_url();
    assert_eq!(create(&fflow, "a").await, format!("{base}/r1/a"));
    assert_eq!(create(&fflow, "a").await, format!("{base}/r2/a"));
    let again = send(Method::POST, &format!("{base}/a"), "application/json", "").await.unwrap();
    assert_eq!(again.0, 500);
    assert_eq!(delete(&format!("{base}/r2/a")).await, Some(200));
    assert_eq!(delete(&format!("{base}/r2/a")).await, Some(404));
    assert_eq!(push(&format!("{base}/r1/a"), "x").await, Some(201));
    assert_eq!(push(&format!("{base}/r9/a"), "x").await, Some(404));
}

#[actix_web::test]
async fn a_wrong_content_type_and_long_bodies_are_refused() {
    let fflow = start(RecordingOptions::default());
    let flow = create(&fflow, "a").await;
    let typed = send(Method::POST, &format!("{flow}/push"), "text/plain", "x").await.unwrap();
    assert_eq!(typed.0, 500);
    let url = format!("{flow}/push");
    let long = send(Method::POST, &url, "application/octet-stream", vec![0; (1 << 20) + 1]).await.unwrap();
    assert!(long.0 == 413 && long.1.starts_with(b"<html>"));
    assert_eq!(push(&flow, vec![0; 1 << 20]).await, Some(201));
    let open = start(RecordingOptions { proxy_body_limit: None, ..Default::default() });
    let url = format!("{}/push", create(&open, "a").await);
    let long = send(Method::POST, &url, "application/octet-stream", vec![0; (10 << 20) + 1]).await.unwrap();
    assert!(long.0 == 413 && long.1.starts_with(b"{"));
}

#[actix_web::test]
async fn resets_differ_in_whether_the_effect_happened() {
    let fflow = start(RecordingOptions::default());
    let flow = create(&fflow, "a").await;
    let before = fflow.inject(FaultRule::on(CallKind::Push, Fault::ResetBefore).name("a").skip(1).once());
    fflow.inject(FaultRule::on(CallKind::Push, Fault::ResetAfter).skip(1).once());
    assert_eq!(push(&flow, "1").await, Some(201));
    assert_eq!(push(&flow, "2").await, None);
    assert_eq!(fflow.struck(before), 1);
    assert_eq!(push(&flow, "3").await, None);
    assert_eq!(push(&flow, "4").await, Some(201));
    assert_eq!(fflow.flow("a").unwrap().body.unwrap(), "134");
    let statuses: Vec<_> = fflow.calls().iter().skip(1).map(|call| call.status).collect();
    assert_eq!(statuses, [Some(201), None, None, Some(201)]);
}

#[actix_web::test]
async fn a_hang_never_answers_and_a_status_answers_with_or_without_effect() {
    let fflow = start(RecordingOptions::default());
    let flow = create(&fflow, "a").await;
    let hang = fflow.inject(FaultRule::on(CallKind::Push, Fault::Hang(None)));
    assert_eq!(push(&flow, "1").await, None);
    fflow.disarm(hang);
    fflow.inject(FaultRule::on(CallKind::Push, Fault::Status(500)).once());
    assert_eq!(push(&flow, "2").await, Some(500));
    fflow.inject(FaultRule::on(CallKind::Push, Fault::StatusAfterEffect(502)).after_bytes(1).once());
    assert_eq!(push(&flow, "3").await, Some(201));
    assert_eq!(push(&flow, "4").await, Some(502));
    assert_eq!(fflow.flow("a").unwrap().body.unwrap(), "34");
}

#[actix_web::test]
async fn a_long_finish_behind_an_impatient_proxy_goes_on() {
    let fflow = start(RecordingOptions {
        proxy_timeout: Some(Duration::from_millis(50)),
        ..RecordingOptions::default()
    });
    let flow = create(&fflow, "a").await;
    fflow.inject(FaultRule::on(CallKind::Finish, Fault::SlowShip(Duration::from_millis(300))));
    assert_eq!(finish(&flow, "/v/f").await, Some(504));
    assert_eq!(push(&flow, "x").await, Some(404));
    assert!(fflow.holder_files().is_empty());
    fflow.wait_until(SOON, |fflow| !fflow.holder_files().is_empty()).await.unwrap();
    assert!(fflow.flow("a").unwrap().finished);
}

#[actix_web::test]
async fn a_delete_stops_a_busy_finish() {
    let fflow =
        start(RecordingOptions { proxy_timeout: Some(Duration::from_millis(50)), ..Default::default() });
    let flow = create(&fflow, "a").await;
    fflow.inject(FaultRule::on(CallKind::Finish, Fault::DelayThen(Duration::from_millis(200))));
    assert_eq!(finish(&flow, "/v/f").await, Some(504));
    assert_eq!(delete(&flow).await, Some(200));
    let flow = fflow.flow("a").unwrap();
    assert!(flow.state == FlowState::Deleted && !flow.finished && fflow.holder_files().is_empty());
}

#[actix_web::test]
async fn creates_may_answer_other_addresses() {
    let fflow = start(RecordingOptions::default());
    fflow.inject(FaultRule::on(CallKind::Create, Fault::BaseAddress).once());
    assert_eq!(create(&fflow, "a").await, format!("{}/r1/", fflow.base_url()));
    fflow.inject(FaultRule::on(CallKind::Create, Fault::ForeignAddress("http://elsewhere/x".into())).once());
    assert_eq!(create(&fflow, "b").await, "http://elsewhere/x");
    fflow.set_answer_base_address(true);
    assert_eq!(create(&fflow, "c").await, format!("{}/r3/", fflow.base_url()));
}

#[actix_web::test]
async fn a_dead_replica_forgets_its_flows_and_is_passed_over() {
    let fflow = start(RecordingOptions { replicas: 2, ..Default::default() });
    let flow = create(&fflow, "a").await;
    fflow.inject(FaultRule::on(CallKind::Push, Fault::KillReplica).once());
    assert_eq!(push(&flow, "x").await, None);
    assert_eq!(push(&flow, "x").await, Some(502));
    assert_eq!(fflow.flow("a").unwrap().state, FlowState::Lost);
    assert!(create(&fflow, "b").await.contains("/r2/"));
    assert!(create(&fflow, "c").await.contains("/r2/"));
    fflow.revive_replica(1);
    assert_eq!(push(&flow, "x").await, Some(404));
    assert!(create(&fflow, "d").await.contains("/r1/"));
}

#[actix_web::test]
async fn a_dead_ffmpeg_takes_pushes_and_never_answers_the_rest() {
    let fflow = start(RecordingOptions::default());
    let flow = create(&fflow, "a").await;
    assert!(fflow.kill_flow("a"));
    assert_eq!(push(&flow, "x").await, Some(201));
    assert_eq!(fflow.flow("a").unwrap().bytes, 0);
    assert_eq!(finish(&flow, "/v/f").await, None);
    assert_eq!(delete(&flow).await, None);
    let kind = start(RecordingOptions { as_observed: false, ..Default::default() });
    let flow = create(&kind, "a").await;
    assert!(kind.kill_flow("a"));
    assert_eq!(push(&flow, "x").await, Some(500));
    assert_eq!(finish(&flow, "/v/f").await, Some(500));
}

#[actix_web::test]
async fn finishes_may_ship_nothing_or_half_or_meet_no_ftp() {
    let fflow = start(RecordingOptions::default());
    fflow.inject(FaultRule::on(CallKind::Finish, Fault::FinishWithoutFiles).once());
    let flow = create(&fflow, "a").await;
    assert_eq!(finish(&flow, "/v/f").await, Some(201));
    assert!(fflow.holder_files().is_empty());
    fflow.inject(FaultRule::on(CallKind::Finish, Fault::FinishIncomplete).once());
    let flow = create(&fflow, "b").await;
    assert_eq!(finish(&flow, "/v/f").await, Some(201));
    assert!(!fflow.holder_files().contains(&"v/f/hls/manifest1.ts".to_owned()));
    fflow.set_ftp_down(true);
    let flow = create(&fflow, "c").await;
    assert_eq!(finish(&flow, "/v/g").await, Some(500));
    assert_eq!(push(&flow, "x").await, Some(404));
}

#[actix_web::test]
async fn two_pushes_at_once_are_noticed() {
    let fflow = start(RecordingOptions::default());
    let flow = create(&fflow, "a").await;
    fflow.inject(FaultRule::on(CallKind::Push, Fault::DelayThen(Duration::from_millis(100))));
    let both = futures_util::future::join(push(&flow, "1"), push(&flow, "2")).await;
    assert_eq!(both, (Some(201), Some(201)));
    assert!(fflow.flow("a").unwrap().concurrent_pushes_seen);
}

#[actix_web::test]
async fn a_block_can_be_fed_twice_and_the_living_flows_are_named() {
    let fflow = start(RecordingOptions::default());
    let flow = create(&fflow, "a").await;
    fflow.inject(FaultRule::on(CallKind::Push, Fault::EffectTwice).once());
    assert_eq!(push(&flow, "one").await, Some(201));
    assert_eq!(push(&flow, "two").await, Some(201));
    assert_eq!(fflow.flow("a").unwrap().body.unwrap(), "oneonetwo");
    assert_eq!(fflow.living(), ["a"]);
    assert!(fflow.kill_flow("a"));
    assert_eq!(fflow.living(), ["a"]);
    fflow.set_as_observed(false);
    assert_eq!(delete(&flow).await, Some(200));
    assert!(fflow.living().is_empty());
}
