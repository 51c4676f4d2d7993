//! The consumer alone, between a broker and a validator in memory.
#![allow(clippy::unwrap_used, clippy::expect_used)]
use std::sync::Mutex;

use bytes::Bytes;

use super::*;
use crate::config::{Config, ConfigSources};
use crate::domain::chunk::{Field, Headers};
use crate::domain::ids::CorrelationId;
use crate::domain::session::{Refusal, RefusalKind};
use crate::gateways::broker::BrokerError;
use crate::moderation;
use crate::readiness::{Dependency, State};
use crate::testkit::memory_broker::{Call, MemoryBroker};

const DEADLINE: Duration = Duration::from_secs(10);

/// Keeps what the consumer hands on, until a test takes it.
#[derive(Clone, Default)]
struct Desk(Arc<Mutex<VecDeque<ValidateChunk>>>);

struct Probe(Desk);

impl Actor for Probe {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(512);
    }
}

impl Handler<ValidateChunk> for Probe {
    type Result = ();

    fn handle(&mut self, message: ValidateChunk, _: &mut Self::Context) {
        self.0.0.lock().unwrap().push_back(message);
    }
}

impl Desk {
    fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    async fn holds(&self, count: usize) {
        let enough = async {
            while self.count() < count {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(DEADLINE, enough).await.expect("chunks arrive");
    }

    async fn take(&self) -> ValidateChunk {
        self.holds(1).await;
        self.0.lock().unwrap().pop_front().unwrap()
    }
}

struct World {
    broker: MemoryBroker,
    desk: Desk,
    readiness: Readiness,
    consumer: Addr<AmqpConsumer>,
}

fn settings() -> AmqpConfig {
    let mut amqp = Config::load(ConfigSources::default()).unwrap().0.amqp;
    amqp.reconnect_max = Duration::from_millis(250);
    amqp.blocked_grace = Duration::from_millis(300);
    amqp
}

fn world(config: AmqpConfig) -> World {
    let broker = MemoryBroker::new(config.prefetch.into());
    let (desk, readiness) = (Desk::default(), Readiness::new());
    let probe = Probe(desk.clone()).start();
    let consumer = AmqpConsumer::new(Arc::new(broker.clone()), probe.recipient(), config, readiness.clone())
        .with_settle_share(Duration::from_millis(300));
    let consumer = Supervisor::start(|_| consumer);
    World { broker, desk, readiness, consumer }
}

impl World {
    fn send(&self, name: &str, bytes: usize) {
        let correlation = Field::Text(name.as_bytes().to_vec());
        let headers = Headers { correlation, ..Headers::default() };
        self.broker.send(RawDelivery { headers, body: Bytes::from(vec![0; bytes]), trace: None });
    }

    async fn until(&self, what: &str, holds: impl Fn(&MemoryBroker) -> bool) {
        assert!(self.broker.until(DEADLINE, holds).await, "{what}: {:?}", self.broker.calls());
    }

    async fn called(&self, call: Call) {
        self.until(&format!("{call:?}"), |broker| broker.calls().contains(&call)).await;
    }

    async fn under_way(&self, chunks: usize) {
        let reached = async {
            while moderation::chunks() != chunks {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let told = tokio::time::timeout(DEADLINE, reached).await;
        assert!(told.is_ok(), "{} chunks under way, not {chunks}", moderation::chunks());
    }

    async fn amqp_is(&self, what: &str, holds: impl Fn(&State) -> bool) {
        let reached = async {
            while !holds(&self.readiness.get(Dependency::Amqp)) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(DEADLINE, reached).await.expect(what);
    }
}

fn id(name: &str) -> CorrelationId {
    CorrelationId::parse(name.as_bytes()).unwrap()
}

fn accepted(name: &str) -> Reply {
    Reply { correlation: id(name), refusal: None }
}

fn name_of(message: &ValidateChunk) -> String {
    match &message.delivery.headers.correlation {
        Field::Text(text) => String::from_utf8(text.clone()).unwrap(),
        other => panic!("{other:?}"),
    }
}

fn accept(message: ValidateChunk) {
    let name = name_of(&message);
    message.ticket.accept(id(&name));
}

fn count(broker: &MemoryBroker, wanted: impl Fn(&Call) -> bool) -> usize {
    broker.calls().iter().filter(|call| wanted(call)).count()
}

#[actix_rt::test]
async fn the_reply_is_published_before_its_delivery_is_acked() {
    let world = world(settings());
    world.send("a", 3);
    accept(world.desk.take().await);
    world.called(Call::Acked(1)).await;
    assert_eq!(world.broker.calls(), [Call::Connected, Call::Published(accepted("a")), Call::Acked(1)]);
    assert_eq!(world.readiness.get(Dependency::Amqp), State::Up);
}

#[actix_rt::test]
async fn a_refusal_travels_with_its_reply() {
    let world = world(settings());
    world.send("a", 3);
    let refusal =
        Refusal { reason: "no".into(), expected: Some(7), retryable: true, kind: RefusalKind::Offset };
    world.desk.take().await.ticket.refuse(id("a"), refusal.clone());
    world.called(Call::Published(Reply { correlation: id("a"), refusal: Some(refusal) })).await;
    world.called(Call::Acked(1)).await;
}

#[actix_rt::test]
async fn answers_come_in_the_order_of_settling_not_of_arrival() {
    let world = world(settings());
    world.send("a", 1);
    world.send("b", 1);
    let (first, second) = (world.desk.take().await, world.desk.take().await);
    accept(second);
    world.called(Call::Acked(2)).await;
    accept(first);
    world.called(Call::Acked(1)).await;
}

#[actix_rt::test]
async fn the_thread_is_told_how_many_chunks_are_under_way() {
    let world = world(settings());
    world.send("a", 1);
    world.send("b", 1);
    world.under_way(2).await;
    accept(world.desk.take().await);
    world.under_way(1).await;
    world.broker.refuse([BrokerError::Lost("connection refused".into())]);
    world.broker.cut();
    world.under_way(0).await;
    world.under_way(1).await;
}

#[actix_rt::test]
async fn a_delivery_nobody_can_be_told_about_is_rejected() {
    let world = world(settings());
    world.send("a", 1);
    world.desk.take().await.ticket.reject("no correlation id".into());
    world.called(Call::Rejected(1)).await;
    assert!(world.broker.replies().is_empty());
}

#[actix_rt::test]
async fn a_dropped_ticket_gives_its_delivery_back() {
    let world = world(settings());
    world.send("a", 1);
    drop(world.desk.take().await);
    world.called(Call::GivenBack(1)).await;
    accept(world.desk.take().await);
    world.called(Call::Acked(2)).await;
}

#[actix_rt::test]
async fn a_line_that_drops_everything_does_not_spin() {
    let world = world(settings());
    world.send("a", 1);
    let begun = std::time::Instant::now();
    for _ in 0..4 {
        drop(world.desk.take().await);
    }
    world.called(Call::GivenBack(4)).await;
    assert!(begun.elapsed() >= Duration::from_millis(200), "{:?}", begun.elapsed());
}

#[actix_rt::test]
async fn a_lost_link_is_replaced_and_its_deliveries_come_again() {
    let world = world(settings());
    world.send("a", 1);
    let stale = world.desk.take().await;
    world.broker.cut();
    let again = world.desk.take().await;
    accept(stale);
    accept(again);
    world.called(Call::Acked(2)).await;
    assert_eq!(world.broker.replies(), [accepted("a")]);
    assert_eq!(count(&world.broker, |call| *call == Call::Connected), 2);
}

#[actix_rt::test]
async fn a_failed_publish_replaces_the_link_and_is_answered_once_more() {
    let world = world(settings());
    world.broker.fail_publishes(1);
    world.send("a", 1);
    accept(world.desk.take().await);
    accept(world.desk.take().await);
    world.called(Call::Acked(2)).await;
    assert_eq!(world.broker.replies(), [accepted("a")]);
}

#[actix_rt::test]
async fn a_returned_reply_makes_the_topology_declared_and_is_published_again() {
    let world = world(settings());
    world.broker.return_next(2);
    world.send("a", 1);
    accept(world.desk.take().await);
    world.called(Call::Acked(1)).await;
    let (returned, reply) = (Call::Returned(accepted("a")), Call::Published(accepted("a")));
    let expected =
        [Call::Connected, returned.clone(), Call::Declared, returned, Call::Declared, reply, Call::Acked(1)];
    assert_eq!(world.broker.calls(), expected);
}

#[actix_rt::test]
async fn a_reply_that_no_queue_ever_takes_gives_its_delivery_back() {
    let world = world(settings());
    world.broker.return_next(4);
    world.send("a", 1);
    accept(world.desk.take().await);
    world.called(Call::GivenBack(1)).await;
    accept(world.desk.take().await);
    world.called(Call::Acked(2)).await;
}

#[actix_rt::test]
async fn a_reply_to_an_asker_that_is_gone_is_dropped_and_its_delivery_is_over() {
    let world = world(settings());
    world.broker.return_next(1);
    world.send("send.a", 1);
    accept(world.desk.take().await);
    world.called(Call::Acked(1)).await;
    assert_eq!(world.broker.calls(), [Call::Connected, Call::Returned(accepted("send.a")), Call::Acked(1)]);
}

#[actix_rt::test]
async fn beyond_the_budget_consuming_pauses_until_half_is_settled() {
    let world = world(AmqpConfig { inflight_bytes: 100, ..settings() });
    for name in ["a", "b", "c"] {
        world.send(name, 40);
    }
    world.called(Call::Consume(false)).await;
    world.send("d", 40);
    accept(world.desk.take().await);
    world.called(Call::Acked(1)).await;
    assert!(!world.broker.calls().contains(&Call::Consume(true)));
    accept(world.desk.take().await);
    world.called(Call::Consume(true)).await;
    world.desk.holds(2).await;
}

#[actix_rt::test]
async fn under_a_short_alarm_nothing_is_acked_without_its_reply() {
    let world = world(AmqpConfig { blocked_grace: Duration::from_secs(60), ..settings() });
    world.send("a", 1);
    let held = world.desk.take().await;
    world.broker.block(true);
    world.amqp_is("alarm is shown", |state| matches!(state, State::Degraded(_))).await;
    accept(held);
    world.send("b", 1);
    accept(world.desk.take().await);
    world.broker.block(false);
    world.called(Call::Acked(2)).await;
    world.called(Call::Acked(1)).await;
    let calls = world.broker.calls();
    let position = |call: Call| calls.iter().position(|other| *other == call).unwrap();
    assert!(position(Call::Published(accepted("a"))) < position(Call::Acked(1)));
    assert!(position(Call::Published(accepted("b"))) < position(Call::Acked(2)));
    world.amqp_is("alarm is over", |state| *state == State::Up).await;
}

#[actix_rt::test]
async fn under_a_long_alarm_the_queue_drains_and_replies_follow_when_it_lifts() {
    let world = world(settings());
    world.send("a", 1);
    let held = world.desk.take().await;
    world.broker.block(true);
    world.amqp_is("alarm is shown", |state| matches!(state, State::Degraded(_))).await;
    accept(held);
    world.called(Call::Acked(1)).await;
    world.send("b", 1);
    accept(world.desk.take().await);
    world.called(Call::Acked(2)).await;
    assert!(world.broker.replies().is_empty());
    world.broker.block(false);
    world.until("both replies", |broker| broker.replies().len() == 2).await;
}

#[actix_rt::test]
async fn a_reply_in_flight_when_the_alarm_comes_survives_the_link() {
    let world = world(settings());
    world.send("a", 1);
    world.broker.block(true);
    accept(world.desk.take().await);
    world.called(Call::Acked(1)).await;
    world.broker.block(false);
    world.broker.cut();
    world.until("the reply", |broker| broker.replies() == [accepted("a")]).await;
}

#[actix_rt::test]
async fn when_too_many_replies_are_kept_consuming_pauses() {
    let world = world(AmqpConfig { kept_replies: 2, blocked_grace: Duration::from_millis(10), ..settings() });
    world.broker.block(true);
    world.amqp_is("alarm is shown", |state| matches!(state, State::Degraded(_))).await;
    for name in ["a", "b"] {
        world.send(name, 1);
        accept(world.desk.take().await);
    }
    world.called(Call::Consume(false)).await;
    world.broker.block(false);
    world.called(Call::Consume(true)).await;
    world.until("both replies", |broker| broker.replies().len() == 2).await;
}

#[actix_rt::test]
async fn a_drain_waits_for_open_tickets() {
    let world = world(settings());
    world.send("a", 1);
    let held = world.desk.take().await;
    let drain = actix_rt::spawn(world.consumer.send(Drain));
    world.called(Call::Consume(false)).await;
    accept(held);
    assert_eq!(drain.await.unwrap().unwrap(), 0);
    let calls = world.broker.calls();
    assert_eq!(calls[2..], [Call::Published(accepted("a")), Call::Acked(1), Call::Closed]);
}

#[actix_rt::test]
async fn what_a_drain_does_not_see_settled_goes_back() {
    let world = world(settings());
    world.send("a", 1);
    world.send("b", 1);
    let (first, _second) = (world.desk.take().await, world.desk.take().await);
    accept(first);
    world.called(Call::Acked(1)).await;
    assert_eq!(world.consumer.send(Drain).await.unwrap(), 1);
    assert!(world.broker.calls().ends_with(&[Call::GivenBack(2), Call::Closed]));
    assert_eq!(world.broker.queued(), 1);
    assert_eq!(world.consumer.send(Drain).await.unwrap(), 0);
}

#[actix_rt::test]
async fn a_refusing_broker_is_tried_again_and_shown_as_down() {
    let config = settings();
    let broker = MemoryBroker::new(4);
    broker.refuse([
        BrokerError::Refused("inequivalent arg 'durable'".into()),
        BrokerError::Lost("connection refused".into()),
    ]);
    let readiness = Readiness::new();
    let probe = Probe(Desk::default()).start().recipient();
    let _consumer = AmqpConsumer::new(Arc::new(broker.clone()), probe, config, readiness.clone()).start();
    let world = World { broker, desk: Desk::default(), readiness, consumer: _consumer };
    world
        .amqp_is("the reason is shown", |state| matches!(state, State::Down(why) if why.contains("durable")))
        .await;
    world.amqp_is("it connects in the end", |state| *state == State::Up).await;
}

#[actix_rt::test]
async fn a_chunk_that_cannot_be_handed_on_goes_back() {
    struct Gone;
    impl Actor for Gone {
        type Context = Context<Self>;
        fn started(&mut self, ctx: &mut Self::Context) {
            ctx.stop();
        }
    }
    impl Handler<ValidateChunk> for Gone {
        type Result = ();
        fn handle(&mut self, _: ValidateChunk, _: &mut Self::Context) {}
    }
    let gone = Gone.start();
    while gone.connected() {
        tokio::task::yield_now().await;
    }
    let broker = MemoryBroker::new(4);
    let _consumer =
        AmqpConsumer::new(Arc::new(broker.clone()), gone.recipient(), settings(), Readiness::new()).start();
    broker.send(RawDelivery::default());
    assert!(broker.until(DEADLINE, |broker| broker.calls().contains(&Call::GivenBack(1))).await);
}

#[actix_rt::test]
async fn it_answers_a_ping_while_the_broker_is_away() {
    let world = world(settings());
    world.broker.refuse((0..3).map(|_| BrokerError::Lost("away".into())));
    world.broker.cut();
    world.consumer.send(Ping).await.unwrap();
}

#[actix_rt::test]
async fn a_retired_consumer_connects_no_more_and_is_gone() {
    let world = world(settings());
    world.send("a", 3);
    let open = world.desk.take().await;
    world.consumer.send(Retire).await.unwrap();
    world.broker.cut();
    let consumer = world.consumer.downgrade();
    drop((world.consumer, open));
    let end = std::time::Instant::now() + DEADLINE;
    while consumer.upgrade().is_some() {
        assert!(std::time::Instant::now() < end, "the consumer is still there");
        tokio::task::yield_now().await;
    }
    assert_eq!(count(&world.broker, |call| *call == Call::Connected), 1);
}
