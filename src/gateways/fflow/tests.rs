//! The real client against servers that keep, and break, the contract.
#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use bytes::Bytes;
use peers::recording::{CallKind, Fault, FaultRule, RecordingFflow, RecordingOptions};
use url::Url;

use super::*;
use crate::config::FflowConfig;
use crate::domain::ids::{Generation, SessionId};
use crate::domain::route::{self, AllowList};

fn config(base: &str) -> FflowConfig {
    FflowConfig {
        base_url: Url::parse(base).unwrap(),
        allowed: Vec::new(),
        create_timeout: Duration::from_secs(5),
        push_timeout: Duration::from_millis(700),
        finish_timeout: Duration::from_millis(700),
        delete_timeout: Duration::from_millis(700),
        body_limit: 1024,
        refused_pause: Duration::from_secs(60),
        trust: Default::default(),
    }
}

fn name() -> FlowName {
    Generation(2).name(SessionId(uuid::Uuid::from_u128(7)))
}

struct World {
    server: RecordingFflow,
    fflow: AwcFflow,
}

impl World {
    fn new() -> Self {
        let server = RecordingFflow::start(RecordingOptions::default()).unwrap();
        let fflow = AwcFflow::new(config(&server.base_url()), 8);
        World { server, fflow }
    }

    async fn open(&self) -> FlowUrl {
        let answer = self.fflow.create(&name()).await.unwrap();
        route::from_answer(&answer, &name(), &AllowList::new([self.server.base_url()])).unwrap()
    }
}

fn status(error: FflowError) -> u16 {
    match error {
        FflowError::Status { status, .. } => status,
        other => panic!("{other}"),
    }
}

/// A server that answers each connection's first request with these bytes, then closes it.
fn canned(answer: &str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let answer = answer.to_owned();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut heard = [0; 64 * 1024];
            if stream.read(&mut heard).is_ok() {
                let _ = stream.write_all(answer.as_bytes());
            }
        }
    });
    address
}

fn at(address: SocketAddr) -> (AwcFflow, FlowUrl) {
    let base = format!("http://{address}");
    let url = route::at_replica(&base, &name(), &AllowList::new([&base])).unwrap();
    (AwcFflow::new(config(&base), 8), url)
}

#[actix_rt::test]
async fn a_flow_is_opened_fed_finished_and_deleted() {
    let world = World::new();
    let flow = world.open().await;
    assert!(flow.as_str().ends_with(&format!("/{}", name())), "{flow}");
    world.fflow.push(&flow, Bytes::from_static(b"first ")).await.unwrap();
    world.fflow.push(&flow, Bytes::from_static(b"second")).await.unwrap();
    world.fflow.finish(&flow, "/video/flow").await.unwrap();
    assert_eq!(status(world.fflow.delete(&flow).await.unwrap_err()), 404);
    let recorded = world.server.flow(name().as_str()).unwrap();
    assert_eq!((recorded.pushes, recorded.bytes), (2, 12));
    assert!(world.server.holder_files().iter().any(|path| path == "video/flow/dash/manifest.mpd"));
}

#[actix_rt::test]
async fn a_base_or_foreign_address_is_handed_on_unchecked() {
    let world = World::new();
    world.server.inject(FaultRule::on(CallKind::Create, Fault::BaseAddress).once());
    assert!(!world.fflow.create(&name()).await.unwrap().contains(name().as_str()));
    world
        .server
        .inject(FaultRule::on(CallKind::Create, Fault::ForeignAddress("http://evil/x".into())).once());
    assert_eq!(
        world.fflow.create(&Generation(3).name(SessionId(uuid::Uuid::nil()))).await.unwrap(),
        "http://evil/x"
    );
}

#[actix_rt::test]
async fn statuses_are_told_with_their_message() {
    let world = World::new();
    let flow = world.open().await;
    for code in [404, 500, 504] {
        world.server.inject(FaultRule::on(CallKind::Push, Fault::Status(code)).once());
        assert_eq!(status(world.fflow.push(&flow, Bytes::from_static(b"x")).await.unwrap_err()), code);
    }
    let too_long = world.fflow.push(&flow, Bytes::from(vec![0; (1 << 20) + 1])).await.unwrap_err();
    match too_long {
        FflowError::Status { status: 413, message } => assert!(message.contains("Too Large"), "{message}"),
        // The server stopped reading before all was written.
        FflowError::Unknown(_) => {}
        other => panic!("{other}"),
    }
}

#[actix_rt::test]
async fn what_may_have_been_applied_is_unknown() {
    let world = World::new();
    let flow = world.open().await;
    for fault in [Fault::ResetBefore, Fault::ResetAfter, Fault::Hang(None)] {
        world.server.inject(FaultRule::on(CallKind::Push, fault.clone()).once());
        let error = world.fflow.push(&flow, Bytes::from_static(b"x")).await.unwrap_err();
        assert!(matches!(error, FflowError::Unknown(_)), "{fault:?}: {error}");
    }
    world.server.inject(FaultRule::on(CallKind::Finish, Fault::ResetAfter).once());
    let error = world.fflow.finish(&flow, "/v/f").await.unwrap_err();
    assert!(matches!(error, FflowError::Unknown(_)), "{error}");
}

#[actix_rt::test]
async fn a_2xx_counts_whatever_its_body_but_a_create_needs_its_address() {
    let world = World::new();
    let flow = world.open().await;
    for garbage in [vec![0xff; 10], vec![b'x'; 100_000]] {
        world.server.inject(FaultRule::on(CallKind::Push, Fault::Garbage(garbage.clone())).once());
        world.fflow.push(&flow, Bytes::from_static(b"x")).await.unwrap();
        world.server.inject(FaultRule::on(CallKind::Create, Fault::Garbage(garbage)).once());
        let error =
            world.fflow.create(&Generation(3).name(SessionId(uuid::Uuid::new_v4()))).await.unwrap_err();
        assert!(matches!(error, FflowError::Unknown(_)), "{error}");
    }
    let (fflow, url) = at(canned("HTTP/1.1 201 Created\r\ncontent-length: 500\r\n\r\ncut"));
    fflow.push(&url, Bytes::from_static(b"x")).await.unwrap();
    assert!(matches!(fflow.create(&name()).await.unwrap_err(), FflowError::Unknown(_)));
}

#[actix_rt::test]
async fn a_refused_connection_was_not_sent() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let (fflow, url) = at(address);
    assert!(matches!(fflow.create(&name()).await.unwrap_err(), FflowError::NotSent(_)));
    assert!(matches!(fflow.push(&url, Bytes::new()).await.unwrap_err(), FflowError::NotSent(_)));
    let nobody = AwcFflow::new(config("http://no-such-host.invalid:1"), 8);
    assert!(matches!(nobody.create(&name()).await.unwrap_err(), FflowError::NotSent(_)));
}

#[actix_rt::test]
async fn redirects_are_not_followed() {
    let target = World::new();
    let answer = format!(
        "HTTP/1.1 307 x\r\nlocation: {}/stolen\r\ncontent-length: 0\r\n\r\n",
        target.server.base_url()
    );
    let (fflow, url) = at(canned(&answer));
    assert_eq!(status(fflow.create(&name()).await.unwrap_err()), 307);
    assert_eq!(status(fflow.push(&url, Bytes::from_static(b"x")).await.unwrap_err()), 307);
    assert!(target.server.calls().is_empty());
}

#[actix_rt::test]
async fn an_answer_that_is_no_http_is_unknown() {
    let (fflow, url) = at(canned("SSH-2.0-OpenSSH\r\n\r\n"));
    assert!(matches!(fflow.push(&url, Bytes::from_static(b"x")).await.unwrap_err(), FflowError::Unknown(_)));
}

#[actix_rt::test]
async fn a_silent_server_costs_the_deadline_and_no_more() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let (fflow, url) = at(silent.local_addr().unwrap());
    let begun = Instant::now();
    assert!(matches!(fflow.delete(&url).await.unwrap_err(), FflowError::Unknown(_)));
    assert!(begun.elapsed() >= Duration::from_millis(700) && begun.elapsed() < Duration::from_secs(4));
}

#[actix_rt::test]
async fn more_requests_than_a_default_pool_run_at_once() {
    let world = World::new();
    let flow = world.open().await;
    let fflow = AwcFflow::new(config(&world.server.base_url()), 150);
    world.server.inject(FaultRule::on(CallKind::Push, Fault::DelayThen(Duration::from_millis(300))));
    let pushes = (0..150).map(|_| fflow.push(&flow, Bytes::from_static(b"x")));
    let done = futures_util::future::join_all(pushes).await;
    assert_eq!(done.iter().filter(|pushed| pushed.is_ok()).count(), 150);
}
