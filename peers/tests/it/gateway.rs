//! gateway with a real broker and a real database; the test plays the uploader.

use std::time::Duration;

use awc::Client;
use devstack::{Endpoints, PortLease, Sandbox};
use futures_util::StreamExt;
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, Consumer};
use sea_orm::{ConnectionTrait, Database};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::process::{Peer, SOON, wait_until};

const HOLDER: &str = "http://127.0.0.1:9/streams";

/// A gateway in a world of its own.
struct World {
    gateway: Peer,
    url: String,
    sandbox: Sandbox,
    _port: PortLease,
}

impl World {
    async fn start(more: &[&str]) -> Self {
        let endpoints = Endpoints::from_env().expect("this test needs servers: run `make test`");
        let sandbox = Sandbox::create(&endpoints, None).await.unwrap();
        let database = Database::connect(&sandbox.database_url).await.unwrap();
        database.execute_unprepared(include_str!("shared-tables.sql")).await.unwrap();
        database.close().await.unwrap();
        let port = PortLease::take().unwrap();
        let listen = port.address();
        let url = format!("http://{listen}");
        let mut arguments = vec!["--listen", &listen, "--amqp", &sandbox.amqp_url];
        arguments.extend(["--database", &sandbox.database_url, "--holder-url", HOLDER]);
        arguments.extend(more);
        let gateway = Peer::start(env!("CARGO_BIN_EXE_gateway"), &arguments, &url).await;
        Self { gateway, url, sandbox, _port: port }
    }

    async fn create_video(&self, sizes: &[i64]) -> Value {
        let body = json!({ "title": "t", "description": "d", "totalBytesList": sizes });
        let (status, answer) = post_json(&format!("{}/create-video", self.url), &body).await;
        assert_eq!(status, 201, "{answer}");
        answer["payload"].clone()
    }

    /// A session to upload into.
    async fn session(&self) -> String {
        let video = self.create_video(&[10]).await;
        video["flows"][0]["uploadSession"]["id"].as_str().unwrap().to_owned()
    }

    async fn upload(&self, session: &str, start: &str, size: &str, body: &'static [u8]) -> (u16, Value) {
        let client = Client::builder().timeout(Duration::from_secs(5)).finish();
        let request = client
            .post(format!("{}/upload/{session}", self.url))
            .insert_header(("content-type", "application/octet-stream"))
            .insert_header(("x-start-byte", start))
            .insert_header(("x-size", size));
        let mut answer = request.send_body(body).await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    async fn channel(&self) -> Channel {
        let connection = Connection::connect(&self.sandbox.amqp_url, ConnectionProperties::default()).await;
        connection.unwrap().create_channel().await.unwrap()
    }

    async fn uploader(&self) -> Uploader {
        let channel = self.channel().await;
        let options = BasicConsumeOptions::default();
        let consumer =
            channel.basic_consume("chunk-upload".into(), "".into(), options, FieldTable::default()).await;
        Uploader { channel, consumer: consumer.unwrap() }
    }

    /// Messages ready in the queue of replies.
    async fn replies_left(&self) -> u32 {
        let options = QueueDeclareOptions { passive: true, ..Default::default() };
        let channel = self.channel().await;
        channel
            .queue_declare("chunk-reply".into(), options, FieldTable::default())
            .await
            .unwrap()
            .message_count()
    }
}

/// Plays the uploader: takes chunks and replies as told.
struct Uploader {
    channel: Channel,
    consumer: Consumer,
}

impl Uploader {
    async fn chunk(&mut self) -> Delivery {
        let next = actix_web::rt::time::timeout(SOON, self.consumer.next()).await;
        let delivery = next.expect("a chunk in time").expect("a consumer").unwrap();
        delivery.acker.ack(BasicAckOptions::default()).await.unwrap();
        delivery
    }

    async fn answer(&mut self, error: Option<&str>) -> Delivery {
        let chunk = self.chunk().await;
        reply(&self.channel, &text(&chunk, "x-correlation-id"), error).await;
        chunk
    }
}

async fn reply(channel: &Channel, correlation_id: &str, error: Option<&str>) {
    let mut headers = FieldTable::default();
    headers.insert("x-correlation-id".into(), AMQPValue::LongString(correlation_id.into()));
    let status = if error.is_some() { "nack" } else { "ack" };
    headers.insert("x-status".into(), AMQPValue::LongString(status.into()));
    if let Some(error) = error {
        headers.insert("x-error".into(), AMQPValue::LongString(error.into()));
    }
    let properties = BasicProperties::default().with_headers(headers);
    let key = format!("reply.{correlation_id}");
    let options = BasicPublishOptions::default();
    channel.basic_publish("chunk-exchange".into(), key.into(), options, b"", properties).await.unwrap();
}

fn header<'a>(chunk: &'a Delivery, name: &str) -> &'a AMQPValue {
    chunk.properties.headers().as_ref().unwrap().inner().get(name).unwrap()
}

fn text(chunk: &Delivery, name: &str) -> String {
    match header(chunk, name) {
        AMQPValue::LongString(value) => value.to_string(),
        other => panic!("{name} is {other:?}"),
    }
}

async fn post_json(url: &str, body: &Value) -> (u16, Value) {
    let mut answer = Client::default().post(url).send_json(body).await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

#[actix_web::test]
async fn a_video_is_created_with_a_flow_and_a_session_for_each_size() {
    let world = World::start(&[]).await;
    let video = world.create_video(&[10, 2_147_483_647]).await;
    assert_eq!((video["title"].as_str(), video["status"].as_str()), (Some("t"), Some("CREATED")));
    assert_eq!(video["flows"].as_array().unwrap().len(), 2);
    let flow = &video["flows"][0];
    let base = format!("{HOLDER}/{}/{}", video["id"].as_str().unwrap(), flow["id"].as_str().unwrap());
    assert_eq!(flow["distributionUrls"]["dash"], format!("{base}/dash/manifest.mpd"));
    assert_eq!(flow["distributionUrls"]["hls"], format!("{base}/hls/manifest.m3u8"));
    assert_eq!(flow["uploadSession"]["uploadedBytes"], 0);
    let url = format!("{}/state/{}", world.url, video["id"].as_str().unwrap());
    let mut state = Client::default().get(&url).send().await.unwrap();
    assert_eq!(state.json::<Value>().await.unwrap()["payload"], video);
    let database = Database::connect(&world.sandbox.database_url).await.unwrap();
    database.execute_unprepared("DELETE FROM upload_sessions").await.unwrap();
    let mut state = Client::default().get(&url).send().await.unwrap();
    let flow = &state.json::<Value>().await.unwrap()["payload"]["flows"][0];
    assert!(flow.get("uploadSession").is_none());
    let unknown = Client::default().get(format!("{}/state/{}", world.url, Uuid::nil())).send().await.unwrap();
    assert_eq!(unknown.status(), 404);
}

#[actix_web::test]
async fn a_chunk_travels_with_typed_headers_and_its_reply_comes_back() {
    let world = World::start(&[]).await;
    let session = world.session().await;
    let mut uploader = world.uploader().await;
    let (answer, chunk) =
        futures_util::join!(world.upload(&session, "0", "8192", b"hello"), uploader.answer(None));
    assert_eq!((answer.0, answer.1["status"].as_str()), (201, Some("success")));
    assert_eq!(chunk.data, b"hello");
    assert_eq!(chunk.routing_key.as_str(), format!("chunk.{}", text(&chunk, "x-correlation-id")));
    assert_eq!(text(&chunk, "x-session-id"), session);
    assert_eq!(header(&chunk, "x-start-byte"), &AMQPValue::ShortShortInt(0));
    assert_eq!(header(&chunk, "x-size"), &AMQPValue::ShortInt(8192));
    let headers = chunk.properties.headers().clone().unwrap();
    assert_eq!(chunk.properties, BasicProperties::default().with_headers(headers));
    let (answer, _) =
        futures_util::join!(world.upload(&session, "-1", "0.5", b"x"), uploader.answer(Some("not so")));
    assert_eq!(answer, (400, json!({ "status": "error", "message": "not so" })));
}

#[actix_web::test]
async fn what_cannot_be_published_is_refused() {
    let world = World::start(&["--token", "secret"]).await;
    let body = json!({ "title": "t", "description": "d", "totalBytesList": [1] });
    assert_eq!(post_json(&format!("{}/create-video", world.url), &body).await.0, 401);
    assert_eq!(world.upload("x", "0", "1", b"x").await.0, 401);
    let send = async |path: &str, start: &str, length: usize| {
        let request = Client::default().post(format!("{}/{path}", world.url)).bearer_auth("secret");
        let request = request.insert_header(("x-start-byte", start)).insert_header(("x-size", "1"));
        request.send_body(vec![0; length]).await.unwrap().status().as_u16()
    };
    assert_eq!(send(&format!("upload/{}", Uuid::nil()), "0", 1).await, 404);
    assert_eq!(send("upload/none", "0", 1).await, 404);
    assert_eq!(send(&format!("upload/{}", Uuid::nil()), "first", 1).await, 400);
    assert_eq!(send(&format!("upload/{}", Uuid::nil()), "0", (10 << 20) + 1).await, 413);
}

#[actix_web::test]
async fn a_reply_that_does_not_come_is_a_504_and_a_late_one_is_taken_away() {
    let mut world = World::start(&["--reply-timeout", "200ms"]).await;
    let session = world.session().await;
    let mut uploader = world.uploader().await;
    assert_eq!(world.upload(&session, "0", "1", b"x").await.0, 504);
    uploader.answer(None).await;
    reply(&uploader.channel, "unknown", None).await;
    // A reply after these two in the same queue shows that they were handled.
    let (answer, _) = futures_util::join!(world.upload(&session, "0", "1", b"x"), uploader.answer(None));
    assert_eq!(answer.0, 201);
    world.gateway.signal(devstack::Signal::SIGTERM);
    assert!(world.gateway.exit().await.success());
    assert_eq!(world.replies_left().await, 0);
}

#[actix_web::test]
async fn a_lost_broker_connection_and_topology_come_back() {
    let world = World::start(&[]).await;
    let session = world.session().await;
    let channel = world.channel().await;
    for queue in ["chunk-upload", "chunk-reply"] {
        channel.queue_delete(queue.into(), QueueDeleteOptions::default()).await.unwrap();
    }
    wait_until("gateway's connection is closed", async || {
        world.sandbox.close_amqp_connections().await.unwrap() > 0
    })
    .await;
    let mut declared = None;
    wait_until("the queues are declared again", async || {
        let options = QueueDeclareOptions { passive: true, ..Default::default() };
        let channel = world.channel().await;
        declared = channel.queue_declare("chunk-reply".into(), options, FieldTable::default()).await.ok();
        declared.is_some()
    })
    .await;
    let mut uploader = world.uploader().await;
    let (answer, _) = futures_util::join!(world.upload(&session, "0", "1", b"x"), uploader.answer(None));
    assert_eq!(answer.0, 201);
}

#[actix_web::test]
async fn the_observed_gateway_waits_for_ever_and_keeps_unknown_replies() {
    let mut world = World::start(&["--as-observed", "--reply-timeout", "100ms"]).await;
    let session = world.session().await;
    let mut uploader = world.uploader().await;
    reply(&uploader.channel, "unknown", None).await;
    let mut upload = Box::pin(world.upload(&session, "0", "1", b"x"));
    // Five reply timeouts: the kind gateway would have given up.
    let early = actix_web::rt::time::timeout(Duration::from_millis(500), &mut upload).await;
    assert!(early.is_err(), "answered without a reply");
    uploader.answer(None).await;
    assert_eq!(upload.await.0, 201);
    world.gateway.signal(devstack::Signal::SIGTERM);
    world.gateway.exit().await;
    wait_until("the unknown reply is in its queue", async || world.replies_left().await == 1).await;
}

/// How long a refusal would take at most that does not come.
const BRIEFLY: Duration = Duration::from_secs(1);

#[actix_web::test]
async fn a_database_that_is_away_delays_a_chunk_and_as_observed_refuses_it() {
    for (manners, waits) in [(&[][..], true), (&["--as-observed"][..], false)] {
        let world = World::start(manners).await;
        let session = world.session().await;
        let mut uploader = world.uploader().await;
        let database = Database::connect(&world.sandbox.database_url).await.unwrap();
        database.execute_unprepared("ALTER TABLE upload_sessions RENAME TO away").await.unwrap();
        let mut upload = std::pin::pin!(world.upload(&session, "0", "5", b"hello"));
        let refused = actix_web::rt::time::timeout(BRIEFLY, &mut upload).await;
        assert_eq!(refused.is_err(), waits, "{refused:?}");
        if waits {
            database.execute_unprepared("ALTER TABLE away RENAME TO upload_sessions").await.unwrap();
            let (answer, _) = futures_util::join!(upload, uploader.answer(None));
            assert_eq!(answer.0, 201);
        }
    }
}
