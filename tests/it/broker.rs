//! The broker gateway against a real RabbitMQ: the topology, both directions, and every way a link ends.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use devstack::{Endpoints, RabbitMq, Sandbox, TcpProxy, Workspace, wait_until};
use futures_util::StreamExt;
use futures_util::future::join_all;
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, QueueBindOptions, QueueDeclareOptions,
    QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use uploader_v4::config::{AmqpConfig, Config, ConfigSources};
use uploader_v4::domain::chunk::{Field, RawDelivery};
use uploader_v4::domain::ids::CorrelationId;
use uploader_v4::domain::session::{Refusal, RefusalKind};
use uploader_v4::gateways::broker::{Broker, BrokerError, BrokerLink, LapinBroker, LinkEvent, Published};
use uploader_v4::ticket::Reply;

const DEADLINE: Duration = Duration::from_secs(20);

/// One vhost with a gateway in it, as far as the broker can tell.
struct Bench {
    sandbox: Sandbox,
    gateway: Channel,
    _connection: Connection,
}

impl Bench {
    async fn new() -> Bench {
        let endpoints = Endpoints::from_env().expect("run by `make test`, which starts the servers");
        let sandbox = Sandbox::create(&endpoints, None).await.unwrap();
        let connection =
            Connection::connect(&sandbox.amqp_url, ConnectionProperties::default()).await.unwrap();
        let gateway = connection.create_channel().await.unwrap();
        Bench { sandbox, gateway, _connection: connection }
    }

    async fn link(&self) -> Box<dyn BrokerLink> {
        self.link_with(|_| {}).await
    }

    async fn link_with(&self, change: impl FnOnce(&mut AmqpConfig)) -> Box<dyn BrokerLink> {
        let mut settings = settings(&self.sandbox.amqp_url);
        change(&mut settings);
        LapinBroker::new(settings, "test").connect().await.unwrap()
    }

    async fn send(&self, name: &str, body: &[u8]) {
        let mut table = FieldTable::default();
        table.insert("x-correlation-id".into(), AMQPValue::LongString(name.into()));
        table.insert("x-start-byte".into(), AMQPValue::ShortInt(300));
        table.insert("x-size".into(), AMQPValue::Double(body.len() as f64));
        let properties = BasicProperties::default().with_headers(table);
        let (exchange, key) = ("chunk-exchange".into(), format!("chunk.{name}").into());
        let publish =
            self.gateway.basic_publish(exchange, key, BasicPublishOptions::default(), body, properties);
        publish.await.unwrap().await.unwrap();
    }

    /// The next reply, as gateway takes it.
    async fn reply(&self) -> Delivery {
        let options = BasicConsumeOptions::default();
        let consume =
            self.gateway.basic_consume("chunk-reply".into(), "".into(), options, FieldTable::default());
        let mut replies = consume.await.unwrap();
        let reply = tokio::time::timeout(DEADLINE, replies.next()).await.expect("a reply").unwrap().unwrap();
        reply.ack(BasicAckOptions::default()).await.unwrap();
        reply
    }
}

fn settings(url: &str) -> AmqpConfig {
    let env = BTreeMap::from([("AMQP_CONNECTION_STRING".to_owned(), url.to_owned())]);
    Config::load(ConfigSources { file: None, env }).unwrap().0.amqp
}

async fn send(gateway: &Channel, name: &str, body: &[u8]) {
    let mut table = FieldTable::default();
    table.insert("x-correlation-id".into(), AMQPValue::LongString(name.into()));
    table.insert("x-start-byte".into(), AMQPValue::ShortInt(300));
    table.insert("x-size".into(), AMQPValue::Double(body.len() as f64));
    let properties = BasicProperties::default().with_headers(table);
    let (exchange, key) = ("chunk-exchange".into(), format!("chunk.{name}").into());
    let publish = gateway.basic_publish(exchange, key, BasicPublishOptions::default(), body, properties);
    publish.await.unwrap().await.unwrap();
}

async fn event(link: &dyn BrokerLink) -> LinkEvent {
    tokio::time::timeout(DEADLINE, link.next()).await.expect("an event in time")
}

async fn delivery(link: &dyn BrokerLink) -> (u64, RawDelivery) {
    match event(link).await {
        LinkEvent::Delivery { tag, delivery } => (tag, delivery),
        other => panic!("expected a delivery, got {other:?}"),
    }
}

async fn lost(link: &dyn BrokerLink) -> BrokerError {
    match event(link).await {
        LinkEvent::Lost(error) => error,
        other => panic!("expected the end of the link, got {other:?}"),
    }
}

/// Nothing comes: proved by a broker that has answered later requests meanwhile.
async fn silent(link: &dyn BrokerLink) {
    link.declare().await.unwrap();
    let nothing = tokio::time::timeout(Duration::from_millis(200), link.next()).await;
    assert!(nothing.is_err(), "{nothing:?}");
}

fn ack(name: &str) -> Reply {
    Reply { correlation: CorrelationId::parse(name.as_bytes()).unwrap(), refusal: None }
}

fn header<'a>(reply: &'a Delivery, name: &str) -> Option<&'a AMQPValue> {
    reply.properties.headers().as_ref().and_then(|table| table.inner().get(name))
}

#[actix_rt::test]
async fn the_topology_is_what_the_existing_gateway_declares() {
    let bench = Bench::new().await;
    let _link = bench.link().await;
    for queue in ["chunk-upload", "chunk-reply"] {
        let options = QueueDeclareOptions::default();
        bench.gateway.queue_declare(queue.into(), options, FieldTable::default()).await.unwrap();
    }
    let mut settings = settings(&bench.sandbox.amqp_url);
    settings.durable = true;
    let Err(error) = LapinBroker::new(settings, "test").connect().await else {
        panic!("other flags were accepted")
    };
    assert!(matches!(error, BrokerError::Refused(_)), "{error:?}");
}

#[actix_rt::test]
async fn a_chunk_comes_in_and_its_reply_goes_out_as_the_contract_says() {
    let bench = Bench::new().await;
    let link = bench.link().await;
    let body: Vec<u8> = (0..300_000u32).map(|n| n as u8).collect();
    bench.send("c-1", &body).await;
    let (tag, delivery) = delivery(link.as_ref()).await;
    assert_eq!(delivery.headers.correlation, Field::Text(b"c-1".to_vec()));
    assert_eq!(delivery.headers.start, Field::Integer(300));
    assert_eq!(delivery.headers.size, Field::Real(300_000.0));
    assert_eq!(delivery.headers.session, Field::Absent);
    assert_eq!(delivery.body, body);
    let refusal =
        Refusal { reason: "no".into(), expected: Some(7), retryable: true, kind: RefusalKind::Offset };
    let reply = Reply { refusal: Some(refusal), ..ack("c-1") };
    assert_eq!(link.publish(&reply).await.unwrap(), Published::Confirmed);
    link.ack(tag).await.unwrap();
    let reply = bench.reply().await;
    assert_eq!(reply.routing_key.as_str(), "reply.c-1");
    assert!(reply.data.is_empty());
    assert_eq!(header(&reply, "x-correlation-id"), Some(&AMQPValue::LongString("c-1".into())));
    assert_eq!(header(&reply, "x-status"), Some(&AMQPValue::LongString("nack".into())));
    assert_eq!(header(&reply, "x-error"), Some(&AMQPValue::LongString("no".into())));
    assert_eq!(header(&reply, "x-expected-byte"), Some(&AMQPValue::LongLongInt(7)));
    assert_eq!(header(&reply, "x-retryable"), Some(&AMQPValue::Boolean(true)));
    assert_eq!(reply.properties.expiration().as_ref().unwrap().as_str(), "60000");
}

#[actix_rt::test]
async fn an_acked_delivery_is_gone_a_rejected_one_too_and_one_given_back_comes_again() {
    let bench = Bench::new().await;
    let link = bench.link_with(|settings| settings.prefetch = 2).await;
    for name in ["a", "b", "c"] {
        bench.send(name, b"x").await;
    }
    let (first, _) = delivery(link.as_ref()).await;
    let (second, _) = delivery(link.as_ref()).await;
    silent(link.as_ref()).await;
    link.ack(first).await.unwrap();
    let (third, of_c) = delivery(link.as_ref()).await;
    assert_eq!(of_c.headers.correlation, Field::Text(b"c".to_vec()));
    link.reject(second).await.unwrap();
    link.give_back(third).await.unwrap();
    let (again, of_c) = delivery(link.as_ref()).await;
    assert_eq!(of_c.headers.correlation, Field::Text(b"c".to_vec()));
    link.ack(again).await.unwrap();
    silent(link.as_ref()).await;
}

#[actix_rt::test]
async fn of_many_acks_at_once_exactly_the_deliveries_that_were_held_come_again() {
    const MANY: usize = 40;
    let bench = Bench::new().await;
    let link = bench.link().await;
    let mut tags = Vec::new();
    for number in 0..MANY {
        bench.send(&number.to_string(), b"x").await;
        tags.push(delivery(link.as_ref()).await.0);
    }
    let held = [5, 17];
    let acks = (0..MANY).filter(|number| !held.contains(number)).map(|number| link.ack(tags[number]));
    futures_util::future::try_join_all(acks).await.unwrap();
    link.close().await;
    drop(link);
    let link = bench.link().await;
    for number in held {
        let (tag, again) = delivery(link.as_ref()).await;
        assert_eq!(again.headers.correlation, Field::Text(number.to_string().into_bytes()));
        link.ack(tag).await.unwrap();
    }
    silent(link.as_ref()).await;
}

#[actix_rt::test]
async fn a_pause_stops_deliveries_and_leaves_those_that_are_here_valid() {
    let bench = Bench::new().await;
    let link = bench.link().await;
    bench.send("a", b"x").await;
    let (held, _) = delivery(link.as_ref()).await;
    link.consume(false).await.unwrap();
    link.consume(false).await.unwrap();
    bench.send("b", b"x").await;
    silent(link.as_ref()).await;
    link.ack(held).await.unwrap();
    link.consume(true).await.unwrap();
    let (tag, of_b) = delivery(link.as_ref()).await;
    assert_eq!(of_b.headers.correlation, Field::Text(b"b".to_vec()));
    link.ack(tag).await.unwrap();
}

#[actix_rt::test]
async fn however_often_consuming_pauses_deliveries_come_in_the_broker_s_order() {
    const COUNT: u16 = 20_000;
    const PAUSES: usize = 10;
    let bench = &Bench::new().await;
    let link = bench.link_with(|settings| settings.prefetch = COUNT).await;
    link.consume(false).await.unwrap();
    join_all((0..COUNT).map(|number| async move { bench.send(&number.to_string(), b"x").await })).await;
    // A thread with much else to do: deliveries come faster than it takes them on.
    let busy = actix_rt::spawn(async {
        loop {
            let begun = Instant::now();
            while begun.elapsed() < Duration::from_millis(20) {}
            tokio::task::yield_now().await;
        }
    });
    for _ in 0..PAUSES {
        link.consume(true).await.unwrap();
        link.consume(false).await.unwrap();
    }
    link.consume(true).await.unwrap();
    busy.abort();
    let mut tags = Vec::new();
    for _ in 0..COUNT {
        tags.push(delivery(link.as_ref()).await.0);
    }
    let turned = tags.windows(2).find(|pair| pair[0] > pair[1]);
    assert!(turned.is_none(), "delivery {turned:?}");
}

#[actix_rt::test]
async fn a_reply_without_a_queue_is_returned_until_the_topology_is_declared_again() {
    let bench = Bench::new().await;
    let link = bench.link().await;
    bench.gateway.queue_delete("chunk-reply".into(), QueueDeleteOptions::default()).await.unwrap();
    assert_eq!(link.publish(&ack("a")).await.unwrap(), Published::Returned);
    link.declare().await.unwrap();
    assert_eq!(link.publish(&ack("a")).await.unwrap(), Published::Confirmed);
}

#[actix_rt::test]
async fn of_many_replies_at_once_exactly_the_unroutable_ones_are_returned() {
    let bench = Bench::new().await;
    let link = bench.link().await;
    let (queue, exchange) = ("chunk-reply", "chunk-exchange");
    let unbind =
        bench.gateway.queue_unbind(queue.into(), exchange.into(), "reply.*".into(), FieldTable::default());
    unbind.await.unwrap();
    let names: Vec<String> =
        (0..60).map(|n| format!("{}-{n}", if n % 3 == 0 { "gone" } else { "kept" })).collect();
    for name in names.iter().filter(|name| name.starts_with("kept")) {
        let (key, options) = (format!("reply.{name}"), QueueBindOptions::default());
        let bind = bench.gateway.queue_bind(
            queue.into(),
            exchange.into(),
            key.into(),
            options,
            FieldTable::default(),
        );
        bind.await.unwrap();
    }
    for _ in 0..5 {
        let replies: Vec<Reply> = names.iter().map(|name| ack(name)).collect();
        let published = join_all(replies.iter().map(|reply| link.publish(reply))).await;
        for (name, published) in names.iter().zip(published) {
            let expected = if name.starts_with("gone") { Published::Returned } else { Published::Confirmed };
            assert_eq!(published.unwrap(), expected, "{name}");
        }
    }
}

#[actix_rt::test]
async fn a_connection_closed_by_an_operator_ends_the_link_once_and_the_chunk_comes_again() {
    let bench = Bench::new().await;
    let link = bench.link().await;
    bench.send("a", b"x").await;
    delivery(link.as_ref()).await;
    // The management API lists a connection only some time after it was opened.
    let closed = wait_until("all three connections are closed", DEADLINE, async || {
        bench.sandbox.close_amqp_connections().await.is_ok_and(|closed| closed >= 2)
    });
    closed.await.unwrap();
    lost(link.as_ref()).await;
    let second = tokio::time::timeout(Duration::from_millis(1500), link.next()).await;
    assert!(second.is_err(), "{second:?}");
    assert!(link.publish(&ack("a")).await.is_err());
    let next = bench.link().await;
    let (tag, _) = delivery(next.as_ref()).await;
    next.ack(tag).await.unwrap();
}

#[actix_rt::test]
async fn a_deleted_queue_ends_the_link() {
    let bench = Bench::new().await;
    let link = bench.link().await;
    bench.gateway.queue_delete("chunk-upload".into(), QueueDeleteOptions::default()).await.unwrap();
    lost(link.as_ref()).await;
}

#[actix_rt::test]
async fn a_cut_cable_ends_the_link_and_so_does_a_silent_one() {
    let bench = Bench::new().await;
    let authority = bench.sandbox.endpoints().amqp_url.rsplit('@').next().unwrap().to_owned();
    let proxy = TcpProxy::start(authority.trim_start_matches("amqp://").parse().unwrap()).await.unwrap();
    let url = bench.sandbox.amqp_url.replace(authority.trim_start_matches("amqp://"), &proxy.address());
    for silently in [false, true] {
        let mut settings = settings(&url);
        settings.heartbeat = Duration::from_secs(1);
        let link = LapinBroker::new(settings, "test").connect().await.unwrap();
        if silently {
            proxy.stall(true);
        } else {
            proxy.cut();
        }
        assert!(matches!(lost(link.as_ref()).await, BrokerError::Lost(_)));
        proxy.stall(false);
    }
}

#[actix_rt::test]
async fn whoever_is_refused_is_told_so_without_the_password() {
    let bench = Bench::new().await;
    let wrong_password = bench.sandbox.amqp_url.replace("guest:guest@", "guest:sesame@");
    let wrong_vhost = format!("{}-absent", bench.sandbox.amqp_url);
    assert!(wrong_password.contains("sesame"));
    for url in [wrong_password, wrong_vhost] {
        let broker = LapinBroker::new(settings(&url), "test");
        let Err(error) = broker.connect().await else { panic!("let in") };
        assert!(matches!(error, BrokerError::Refused(_)), "{error:?}");
        assert!(!format!("{error} {error:?}").contains("sesame"), "{error:?}");
    }
}

#[actix_rt::test]
async fn a_closed_link_gives_its_deliveries_back() {
    let bench = Bench::new().await;
    let link = bench.link().await;
    bench.send("a", b"x").await;
    delivery(link.as_ref()).await;
    link.close().await;
    drop(link);
    let next = bench.link().await;
    let (tag, _) = delivery(next.as_ref()).await;
    next.ack(tag).await.unwrap();
}

/// A broker of its own: an alarm stops every publisher on it.
#[actix_rt::test]
async fn under_an_alarm_deliveries_go_on_and_replies_wait_until_it_lifts() {
    let workspace = Workspace::new("alarm").unwrap();
    let broker = RabbitMq::start(&workspace).await.unwrap();
    broker.create_vhost("alarm").await.unwrap();
    let url = broker.amqp_url("alarm");
    let mut settings = settings(&url);
    settings.prefetch = 1;
    let link = LapinBroker::new(settings, "test").connect().await.unwrap();
    let connection = Connection::connect(&url, ConnectionProperties::default()).await.unwrap();
    let gateway = connection.create_channel().await.unwrap();
    send(&gateway, "a", b"x").await;
    send(&gateway, "b", b"x").await;
    let (first, _) = delivery(link.as_ref()).await;
    wait_until("b is queued", DEADLINE, async || {
        let depth = broker.queue_depth("alarm", "chunk-upload").await;
        depth.is_ok_and(|depth| depth.is_some_and(|depth| depth.ready == 1))
    })
    .await
    .unwrap();
    broker.memory_alarm(true).await.unwrap();
    let replies = [ack("a"), ack("b")];
    let published = join_all(replies.iter().map(|reply| link.publish(reply)));
    let alarm = async {
        assert!(matches!(event(link.as_ref()).await, LinkEvent::Blocked(true)));
        link.ack(first).await.unwrap();
        let (second, _) = delivery(link.as_ref()).await;
        link.ack(second).await.unwrap();
        broker.memory_alarm(false).await.unwrap();
        assert!(matches!(event(link.as_ref()).await, LinkEvent::Blocked(false)));
    };
    let (published, ()) = futures_util::join!(published, alarm);
    assert!(published.into_iter().all(|outcome| outcome.unwrap() == Published::Confirmed));
}
