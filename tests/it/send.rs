//! `send`: a file goes out as gateway sends it, through everything that may break on its way.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use devstack::{Process, Signal, TcpProxy};
use futures_util::StreamExt;
use lapin::options::BasicConsumeOptions;
use lapin::types::FieldTable;
use lapin::{Connection, ConnectionProperties};
use peers::recording::{CallKind, Fault, FaultRule, RecordingOptions};
use serde_json::Value;
use uuid::Uuid;

use crate::client::headers;
use crate::world::{LATE, Plan, SOON, Upload, World, bytes, sha256};

/// A command that runs, and where it writes to.
struct Sending {
    process: Process,
    folder: PathBuf,
}

/// How a command ended.
struct Ran {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Sending {
    /// Starts `send` with the environment of this world's replicas; a shell keeps its two outputs apart.
    fn start(world: &World, args: &[&str], settings: &[(&str, &str)]) -> Sending {
        let folder = world.workspace.folder(&format!("send-{}", Uuid::new_v4().simple())).unwrap();
        let script = r#"out=$1; shift; exec "$@" >"$out/stdout" 2>"$out/stderr""#;
        let process = Process::command("sh")
            .args(["-c", script, "sh"])
            .arg(&folder)
            .arg(env!("CARGO_BIN_EXE_uploader-v4"))
            .args(["--json", "send"])
            .args(args)
            .env("AMQP_CONNECTION_STRING", &world.sandbox.amqp_url)
            .env("DB_CONNECTION_STRING", &world.sandbox.database_url)
            .env("UPLOADER_HOLDER_BASE_URL", world.fflow.holder_url())
            .envs(settings.iter().copied())
            .start()
            .unwrap();
        Sending { process, folder }
    }

    async fn ended(self) -> Ran {
        let status = self.process.wait_exit(LATE).await.unwrap_or_else(|error| {
            panic!("{error:#}\n{}", std::fs::read_to_string(self.folder.join("stderr")).unwrap())
        });
        let read = |name: &str| std::fs::read_to_string(self.folder.join(name)).unwrap();
        Ran { code: status.code().unwrap_or(-1), stdout: read("stdout"), stderr: read("stderr") }
    }
}

impl Ran {
    fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}\n{}", self.stdout, self.stderr))
    }

    /// Its answer, after it ended like this.
    fn expect(&self, code: i32, outcome: &str) -> Value {
        assert_eq!(self.code, code, "{}\n{}", self.stdout, self.stderr);
        let json = self.json();
        assert_eq!(json["outcome"], outcome, "{}\n{}", self.stdout, self.stderr);
        json
    }
}

async fn send(world: &World, args: &[&str]) -> Ran {
    Sending::start(world, args, &[]).ended().await
}

/// A file of these bytes, and its path as an argument.
fn file(world: &World, name: &str, bytes: &[u8]) -> String {
    let path = world.workspace.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    path.to_str().unwrap().to_owned()
}

fn upload_of(json: &Value) -> Upload {
    let id = |name: &str| json[name].as_str().and_then(|id| id.parse().ok()).unwrap();
    Upload { video: id("video_id"), flow: id("flow_id"), session: id("session_id") }
}

/// The only session that there is, once there is one, with so many bytes of it stored.
async fn underway(world: &World, at_least: i64) -> Upload {
    let sql = "SELECT f.video_id, f.id AS flow_id, u.id AS session_id FROM upload_sessions u \
               JOIN flows f ON f.id = u.flow_id WHERE u.uploaded_bytes >= $1";
    world
        .wait("some bytes to be stored", SOON, async || {
            !world.query(sql, vec![at_least.into()]).await.is_empty()
        })
        .await;
    let row = &world.query(sql, vec![at_least.into()]).await[0];
    let id = |name: &str| row.try_get::<Uuid>("", name).unwrap();
    Upload { video: id("video_id"), flow: id("flow_id"), session: id("session_id") }
}

async fn count(world: &World, table: &str) -> i64 {
    let rows = world.query(&format!("SELECT count(*) AS n FROM {table}"), Vec::new()).await;
    rows[0].try_get("", "n").unwrap()
}

/// What the recording fflow was fed in the end.
fn fed(world: &World, session: Uuid) -> String {
    let mut flows: Vec<_> = world.fflow.flows();
    flows.retain(|flow| flow.name.starts_with(&session.to_string()));
    flows.last().expect("a flow").sha256.clone()
}

/// A proxy before the broker, and the broker's address through it.
async fn cable(world: &World) -> (TcpProxy, String) {
    let url = url::Url::parse(&world.sandbox.amqp_url).unwrap();
    let broker = format!("127.0.0.1:{}", url.port().unwrap());
    let proxy = TcpProxy::start(broker.parse().unwrap()).await.unwrap();
    let through =
        world.sandbox.amqp_url.replace(&format!(":{}", url.port().unwrap()), &format!(":{}", proxy.port()));
    (proxy, through)
}

/// So slow that what is to happen in mid-upload happens there.
const SLOW: [&str; 4] = ["--in-flight", "2", "--chunk-size", "4KiB"];

#[tokio::test]
async fn a_file_arrives_byte_by_byte_and_its_addresses_are_printed() {
    let world = World::new().await;
    let _replica = world.replica("one").await;
    let content = bytes(70, 5_000_003);
    let path = file(&world, "a film.mp4", &content);
    let json =
        send(&world, &[&path, "--chunk-size", "256KiB", "--in-flight", "8"]).await.expect(0, "distributed");
    let upload = upload_of(&json);
    assert_eq!(fed(&world, upload.session), sha256(&content));
    assert_eq!(world.video_status(&upload).await.as_deref(), Some("DISTRIBUTED"));
    let title = world.text("SELECT title FROM videos WHERE id = $1", upload.video).await;
    assert_eq!(title.as_deref(), Some("a film.mp4"));
    let owner = world.text("SELECT user_id::text FROM videos WHERE id = $1", upload.video).await;
    assert_eq!(owner, None);
    for (name, manifest) in [("dash", "dash/manifest.mpd"), ("hls", "hls/manifest.m3u8")] {
        let address = format!("{}/{}/{}/{manifest}", world.fflow.holder_url(), upload.video, upload.flow);
        assert_eq!(json[name], address.as_str());
        assert_eq!(devstack::http::get(&address, SOON).await.unwrap().status, 200);
    }
    assert_eq!((&json["stored_bytes"], &json["total_bytes"]), (&5_000_003.into(), &5_000_003.into()));
    assert!(json["bytes_per_second"].as_u64().unwrap() > 0);
    assert_eq!(json["resume"], Value::Null);
}

#[tokio::test]
async fn interrupted_it_says_how_to_go_on_and_goes_on_there() {
    let world = World::new().await;
    let _replica = world.replica("one").await;
    let content = bytes(71, 3_000_000);
    let path = file(&world, "film.mp4", &content);
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let before = count(&world, "upload_sessions").await;
        assert_eq!(before, 0, "the first upload is over");
        let sending = Sending::start(&world, &[&[path.as_str()], &SLOW[..]].concat(), &[]);
        let upload = underway(&world, 100_000).await;
        sending.process.signal(signal).unwrap();
        let ran = sending.ended().await;
        let json = ran.expect(1, "interrupted");
        assert_eq!(upload_of(&json).session, upload.session);
        let resume = format!("uploader-v4 send {path} --session {}", upload.session);
        assert_eq!(json["resume"], resume.as_str());
        let stored = json["stored_bytes"].as_i64().unwrap();
        assert!((100_000..3_000_000).contains(&stored), "{stored}");
        assert_eq!(world.committed(&upload).await, stored, "the answers under way were waited for");

        let session = upload.session.to_string();
        let json = send(&world, &[&path, "--session", &session]).await.expect(0, "distributed");
        assert_eq!(upload_of(&json).session, upload.session);
        assert_eq!(fed(&world, upload.session), sha256(&content));
        // Once more: everything is there, it only looks.
        let json = send(&world, &[&path, "--session", &session]).await.expect(0, "distributed");
        assert_eq!((&json["sending_ms"], &json["dash"].is_string()), (&Value::Null, &true));
    }
    assert_eq!(count(&world, "videos").await, 2, "one video for each upload");
}

#[tokio::test]
async fn killed_it_goes_on_from_the_rows_even_with_chunks_of_another_size() {
    let world = World::new().await;
    let replica = world.replica("one").await;
    let content = bytes(72, 2_000_000);
    let path = file(&world, "film.mp4", &content);
    let sending = Sending::start(&world, &[&[path.as_str()], &SLOW[..]].concat(), &[]);
    let upload = underway(&world, 50_000).await;
    // What it sent last is in the queue still when its successor begins.
    replica.process.signal(Signal::SIGSTOP).unwrap();
    sending.process.kill().await.unwrap();
    let args = [&path, "--session", &upload.session.to_string(), "--chunk-size", "100KiB"];
    let sending = Sending::start(&world, &args, &[]);
    replica.process.signal(Signal::SIGCONT).unwrap();
    let json = sending.ended().await.expect(0, "distributed");
    assert_eq!(upload_of(&json).flow, upload.flow);
    assert_eq!(fed(&world, upload.session), sha256(&content));
}

#[tokio::test]
async fn a_reply_to_a_sender_that_is_gone_is_dropped_and_its_chunk_is_kept() {
    let world = World::new().await;
    let replica = world.replica("one").await;
    let content = bytes(81, 200_000);
    let upload = world.announce_one(content.len()).await;
    let client = world.client().await;
    let (session, correlation) = (upload.session.to_string(), format!("send.{}", Uuid::new_v4()));
    client.publish(headers(&session, 0, 100_000, &correlation), &content[..100_000]).await;
    let log = || std::fs::read_to_string(replica.process.log_path().unwrap()).unwrap();
    world.wait("the reply to be dropped", SOON, async || log().contains("the asker is gone")).await;
    client.upload_range(&upload, &content, 100_000, 100_000, content.len()).await;
    world.distributed(&upload).await;
    assert_eq!(log().matches("the asker is gone").count(), 1, "it was delivered once");
    assert!(!log().contains("the chunk goes back"));
}

#[tokio::test]
async fn a_replica_that_dies_in_mid_upload_is_a_delay_and_no_more() {
    let mut world = World::new().await;
    world.set("UPLOADER_REPLICA_LEASE", "3s".to_owned());
    world.set("UPLOADER_REPLICA_HEARTBEAT", "1s".to_owned());
    let replica = world.replica("one").await;
    let content = bytes(73, 3_000_000);
    let path = file(&world, "film.mp4", &content);
    let sending = Sending::start(&world, &[&[path.as_str()], &SLOW[..]].concat(), &[]);
    let upload = underway(&world, 200_000).await;
    replica.process.kill().await.unwrap();
    let _again = world.replica("two").await;
    let json = sending.ended().await.expect(0, "distributed");
    assert_eq!(upload_of(&json).session, upload.session);
    assert_eq!(fed(&world, upload.session), sha256(&content));
    assert_eq!(count(&world, "videos").await, 1);
}

#[tokio::test]
async fn a_cut_cable_is_mended_and_what_was_unanswered_is_sent_again() {
    let world = World::new().await;
    let _replica = world.replica("one").await;
    let (proxy, url) = cable(&world).await;
    let content = bytes(74, 3_000_000);
    let path = file(&world, "film.mp4", &content);
    let args = [&[path.as_str()], &SLOW[..]].concat();
    let sending = Sending::start(&world, &args, &[("AMQP_CONNECTION_STRING", &url)]);
    for stored in [100_000, 600_000, 1_200_000] {
        underway(&world, stored).await;
        proxy.cut();
    }
    let ran = sending.ended().await;
    let json = ran.expect(0, "distributed");
    assert_eq!(fed(&world, upload_of(&json).session), sha256(&content));
    assert!(ran.stderr.contains("connecting again"), "{}", ran.stderr);
    assert_eq!(world.fflow.flows().len(), 1, "bytes were stored once, and fed once");
}

#[tokio::test]
async fn gateway_never_gets_a_reply_of_it() {
    let world = World::new().await;
    let _replica = world.replica("one").await;
    let connection =
        Connection::connect(&world.sandbox.amqp_url, ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    let options = BasicConsumeOptions::default();
    let consume = channel.basic_consume("chunk-reply".into(), "".into(), options, FieldTable::default());
    let mut replies = consume.await.unwrap();
    let path = file(&world, "film.mp4", &bytes(75, 1_000_000));
    send(&world, &[&path]).await.expect(0, "distributed");
    // A reply that does belong to it comes first, though it was asked for last.
    let publisher = connection.create_channel().await.unwrap();
    let mut headers = FieldTable::default();
    headers.insert("x-correlation-id".into(), lapin::types::AMQPValue::LongString("gateway".into()));
    let properties = lapin::BasicProperties::default().with_headers(headers);
    let publish = publisher.basic_publish(
        "chunk-exchange".into(),
        "chunk.x".into(),
        Default::default(),
        b"x",
        properties,
    );
    publish.await.unwrap().await.unwrap();
    let reply = tokio::time::timeout(SOON, replies.next()).await.expect("its own reply").unwrap().unwrap();
    assert_eq!(reply.routing_key.as_str(), "reply.gateway");
}

#[tokio::test]
async fn what_cannot_be_gone_on_with_is_refused_and_changes_nothing() {
    let world = World::new().await;
    let _replica = world.replica("one").await;
    let content = bytes(76, 300_000);
    let path = file(&world, "film.mp4", &content);
    let upload = world.announce_one(content.len()).await;
    let client = world.client().await;
    client.upload_range(&upload, &content, 100_000, 0, 200_000).await;
    let session = upload.session.to_string();
    let unknown = Uuid::new_v4().to_string();
    let shorter = file(&world, "shorter.mp4", &content[1..]);
    let mut changed = content.clone();
    changed[150_000] ^= 1;
    let changed = file(&world, "changed.mp4", &changed);
    for (path, session, reason) in [
        (&shorter, &session, "299999 bytes, but 300000 were announced"),
        (&changed, &session, "chunk at byte 100000 was stored with other bytes"),
        (&path, &unknown, "there is no upload session"),
    ] {
        let json = send(&world, &[path, "--session", session]).await.expect(3, "refused");
        assert!(json["reason"].as_str().unwrap().contains(reason), "{json}");
    }
    world.execute("UPDATE videos SET status = 'BLOCKED' WHERE id = $1", vec![upload.video.into()]).await;
    let json = send(&world, &[&path, "--session", &session]).await.expect(3, "refused");
    assert_eq!(json["reason"], "video is blocked");
    world.execute("UPDATE videos SET status = 'UPLOADING' WHERE id = $1", vec![upload.video.into()]).await;
    assert_eq!(world.committed(&upload).await, 200_000);
    send(&world, &[&path, "--session", &session]).await.expect(0, "distributed");
    assert_eq!(fed(&world, upload.session), sha256(&content));
}

#[tokio::test]
async fn what_cannot_be_sent_is_refused_before_anything_is_created() {
    let world = World::new().await;
    let _replica = world.replica("one").await;
    let empty = file(&world, "empty.mp4", b"");
    let huge = file(&world, "huge.mp4", b"x");
    std::fs::File::options().write(true).open(&huge).unwrap().set_len(1 << 31).unwrap();
    let absent = world.workspace.path().join("absent.mp4");
    let folder = world.workspace.path();
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    for (path, reason) in [
        (empty, "is empty"),
        (huge, "hold numbers up to 2147483647"),
        (text(&absent), "cannot be read"),
        (text(folder), "no regular file"),
    ] {
        let json = send(&world, &[&path]).await.expect(3, "refused");
        assert!(json["reason"].as_str().unwrap().contains(reason), "{json}");
    }
    let path = file(&world, "film.mp4", b"x");
    for wrong in
        [&["--chunk-size", "11MiB"], &["--chunk-size", "0"], &["--in-flight", "9"], &["--session", "x"]]
    {
        let ran = send(&world, &[&[path.as_str()], &wrong[..]].concat()).await;
        assert_eq!(ran.code, 2, "{wrong:?}: {}", ran.stderr);
    }
    let nowhere = ("AMQP_CONNECTION_STRING", "amqp://127.0.0.1:1");
    let ran = Sending::start(&world, &[&path], &[nowhere]).ended().await;
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains("the broker cannot be reached"), "{}", ran.stderr);
    assert_eq!(count(&world, "videos").await, 0);
}

#[tokio::test]
async fn an_upload_that_is_given_up_ends_with_its_reason() {
    let settings = [("UPLOADER_FEED_STRIKE_WAITS", "100ms,100ms"), ("UPLOADER_FEED_BACKOFF_MIN", "100ms")];
    let world = World::with(RecordingOptions::default(), &settings).await;
    let _replica = world.replica("one").await;
    let path = file(&world, "poisoned.mp4", &bytes(78, 600_000));
    let sending = Sending::start(&world, &[&[path.as_str()], &SLOW[..]].concat(), &[]);
    let poisoned = underway(&world, 0).await;
    let rule = FaultRule::on(CallKind::Finish, Fault::Status(500)).name(poisoned.session.to_string());
    world.fflow.inject(rule);
    // Strikes need the evidence that the farm works for others.
    let (client, good) = (world.client().await, bytes(18, 600_000));
    while sending.process.is_running() {
        let upload = world.announce_one(good.len()).await;
        client.upload(&upload, &good, 200_000).await;
        world.distributed(&upload).await;
    }
    let json = sending.ended().await.expect(1, "failed");
    assert_eq!(upload_of(&json).session, poisoned.session);
    assert_eq!(world.video_status(&poisoned).await.as_deref(), Some("BLOCKED"));
    let reason = json["reason"].as_str().unwrap();
    assert!(reason.starts_with("upload has failed: ") && reason.contains("500"), "{reason}");
    assert_eq!(json["resume"], Value::Null);
    let again = send(&world, &[&path, "--session", &poisoned.session.to_string()]).await.expect(3, "refused");
    assert_eq!(again["reason"], reason);
}

#[tokio::test]
async fn nobody_has_to_wait_for_the_streams() {
    let world = World::new().await;
    let _replica = world.replica("one").await;
    world.fflow.inject(FaultRule::on(CallKind::Finish, Fault::DelayThen(Duration::from_secs(2))).once());
    let path = file(&world, "it's a film.mp4", &bytes(77, 300_000));
    let json = send(&world, &[&path, "--no-wait", "--title", "A film"]).await.expect(0, "stored");
    let upload = upload_of(&json);
    assert_eq!(world.flow_status(&upload).await.as_deref(), Some("PROCESSING"));
    let title = world.text("SELECT title FROM videos WHERE id = $1", upload.video).await;
    assert_eq!(title.as_deref(), Some("A film"));
    let resume = json["resume"].as_str().unwrap();
    assert!(resume.contains(r"it'\''s a film.mp4'"), "{resume}");
    assert!(resume.ends_with(&format!("--session {}", upload.session)), "{resume}");
    world.distributed(&upload).await;
}

#[tokio::test]
async fn without_a_holder_the_addresses_are_paths_and_a_late_end_is_told() {
    let world =
        World::planned(Plan { settings: vec![("UPLOADER_HOLDER_BASE_URL", "")], ..Plan::default() }).await;
    let _replica = world.replica("one").await;
    world.fflow.inject(FaultRule::on(CallKind::Finish, Fault::DelayThen(Duration::from_secs(4))).once());
    let path = file(&world, "film.mp4", &bytes(79, 300_000));
    let alone = [("UPLOADER_HOLDER_BASE_URL", "")];
    let ran = Sending::start(&world, &[&path, "--timeout", "1s"], &alone).ended().await;
    let json = ran.expect(1, "unfinished");
    assert!(json["reason"].as_str().unwrap().starts_with("not distributed within 1s"), "{json}");
    let upload = upload_of(&json);
    let session = upload.session.to_string();
    let ran = Sending::start(&world, &[&path, "--session", &session], &alone).ended().await;
    let json = ran.expect(0, "distributed");
    assert_eq!(json["hls"], format!("/{}/{}/hls/manifest.m3u8", upload.video, upload.flow).as_str());
    let fields: BTreeMap<String, Value> = serde_json::from_value(json).unwrap();
    assert!(fields.keys().all(|key| key.chars().all(|letter| letter.is_ascii_lowercase() || letter == '_')));
}
