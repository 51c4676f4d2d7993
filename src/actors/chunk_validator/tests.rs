//! The validator alone: what it hands on, and what it answers itself.
#![allow(clippy::unwrap_used, clippy::expect_used)]
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::*;
use crate::domain::chunk::{Field, Headers, RawDelivery};
use crate::domain::ids::CorrelationId;
use crate::domain::session::RefusalKind;
use crate::ticket::{DeliveryId, Reply, Settlement, Ticket, Verdict};

const SESSION: &str = "a48a81da-0c3b-4f0e-9d55-0d6f3c1c2b11";

/// Passes on whatever it hears.
struct Probe<M>(mpsc::UnboundedSender<M>);

impl<M: Unpin + 'static> Actor for Probe<M> {
    type Context = Context<Self>;
}

impl<M: Message<Result = ()> + Unpin + 'static> Handler<M> for Probe<M> {
    type Result = ();

    fn handle(&mut self, message: M, _: &mut Self::Context) {
        let _ = self.0.send(message);
    }
}

struct World {
    validator: Addr<ChunkValidator>,
    desk: Recipient<Settlement>,
    admitted: mpsc::UnboundedReceiver<AdmitChunk>,
    settled: mpsc::UnboundedReceiver<Settlement>,
}

fn world() -> World {
    let (tell_admitted, admitted) = mpsc::unbounded_channel();
    let (tell_settled, settled) = mpsc::unbounded_channel();
    let registry = Probe(tell_admitted).start();
    let desk = Probe(tell_settled).start().recipient();
    let validator = ChunkValidator::new(registry.recipient(), 1000).start();
    World { validator, desk, admitted, settled }
}

impl World {
    fn validate(&self, headers: Headers, body: &'static [u8]) {
        self.validate_in(tracing::Span::none(), headers, body);
    }

    fn validate_in(&self, span: tracing::Span, headers: Headers, body: &'static [u8]) {
        let ticket = Ticket::new(DeliveryId { link: 1, tag: 7 }, span, self.desk.clone());
        let delivery = RawDelivery { headers, body: Bytes::from_static(body), trace: None };
        self.validator.do_send(ValidateChunk { delivery, ticket });
    }
}

fn good() -> Headers {
    Headers {
        session: Field::Text(SESSION.into()),
        start: Field::Integer(5),
        size: Field::Real(3.0),
        correlation: Field::Text("c".into()),
    }
}

async fn heard<M>(from: &mut mpsc::UnboundedReceiver<M>) -> M {
    tokio::time::timeout(Duration::from_secs(5), from.recv()).await.expect("in time").expect("a message")
}

#[actix_rt::test]
async fn what_is_logged_about_a_chunk_names_its_session_and_place() {
    let page = tempfile::NamedTempFile::new().unwrap();
    let lines = tracing_subscriber::fmt().json().with_writer(Arc::new(page.reopen().unwrap())).finish();
    let _log = tracing::subscriber::set_default(lines);
    let mut world = world();
    let span = tracing::info_span!(
        "chunk",
        delivery.tag = 7,
        session.id = tracing::field::Empty,
        chunk.start = tracing::field::Empty,
        chunk.size = tracing::field::Empty,
    );
    world.validate_in(span, good(), b"abc");
    let admitted = heard(&mut world.admitted).await;
    admitted.ticket.span().in_scope(|| tracing::info!("said later"));
    let text = std::fs::read_to_string(page.path()).unwrap();
    let line = text.lines().find(|line| line.contains("said later")).unwrap();
    let said: serde_json::Value = serde_json::from_str(line).unwrap();
    let expected = serde_json::json!({
        "name": "chunk", "delivery.tag": 7, "session.id": SESSION, "chunk.start": 5, "chunk.size": 3,
    });
    assert_eq!(said["span"], expected);
}

#[actix_rt::test]
async fn a_chunk_is_handed_on_with_its_ticket() {
    let mut world = world();
    world.validate(good(), b"abc");
    let AdmitChunk { chunk, ticket } = heard(&mut world.admitted).await;
    assert_eq!((chunk.facts.start, chunk.facts.size, chunk.body.as_ref()), (5, 3, b"abc".as_slice()));
    ticket.accept(chunk.correlation);
    let verdict = heard(&mut world.settled).await.verdict;
    assert!(matches!(verdict, Verdict::Reply(Reply { refusal: None, .. })));
}

#[actix_rt::test]
async fn a_bad_chunk_is_refused_with_the_reason_and_the_next_one_is_unharmed() {
    let mut world = world();
    world.validate(Headers { size: Field::Integer(4), ..good() }, b"abc");
    world.validate(good(), b"abc");
    let Verdict::Reply(reply) = heard(&mut world.settled).await.verdict else { panic!("no reply") };
    assert_eq!(reply.correlation, CorrelationId::parse(b"c").unwrap());
    let refusal = reply.refusal.unwrap();
    assert_eq!((refusal.kind, refusal.retryable), (RefusalKind::Malformed, false));
    assert!(refusal.reason.contains("body has 3 bytes"), "{}", refusal.reason);
    heard(&mut world.admitted).await;
}

#[actix_rt::test]
async fn a_delivery_without_a_readable_correlation_id_is_rejected() {
    let mut world = world();
    world.validate(Headers { correlation: Field::Integer(7), ..good() }, b"abc");
    assert!(matches!(heard(&mut world.settled).await.verdict, Verdict::Reject { .. }));
}

#[actix_rt::test]
async fn without_a_registry_the_delivery_goes_back() {
    let mut world = world();
    let gone = ChunkValidator::new(stopped().await, 1000).start();
    let ticket = Ticket::new(DeliveryId { link: 1, tag: 8 }, tracing::Span::none(), world.desk.clone());
    let delivery = RawDelivery { headers: good(), body: Bytes::from_static(b"abc"), trace: None };
    gone.do_send(ValidateChunk { delivery, ticket });
    let settlement = heard(&mut world.settled).await;
    assert_eq!(
        settlement,
        Settlement { delivery: DeliveryId { link: 1, tag: 8 }, verdict: Verdict::GiveBack }
    );
}

/// A recipient whose actor has ended.
async fn stopped() -> Recipient<AdmitChunk> {
    struct Brief;
    impl Actor for Brief {
        type Context = Context<Self>;
        fn started(&mut self, ctx: &mut Self::Context) {
            ctx.stop();
        }
    }
    impl Handler<AdmitChunk> for Brief {
        type Result = ();
        fn handle(&mut self, _: AdmitChunk, _: &mut Self::Context) {}
    }
    let brief = Brief.start();
    while brief.connected() {
        tokio::task::yield_now().await;
    }
    brief.recipient()
}
