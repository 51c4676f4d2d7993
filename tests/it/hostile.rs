//! Neighbours and clients that mean ill: no byte goes where it must not, and nothing grows without bound.

use std::time::{Duration, Instant};

use devstack::Signal;
use lapin::types::{AMQPValue, FieldTable};
use peers::recording::{CallKind, Fault, FaultRule, RecordingOptions};
use uuid::Uuid;

use crate::client::{Client, answer, headers};
use crate::rogue::{Reply, Rogue, Trap};
use crate::world::{Replica, SOON, Upload, World, bytes, sha256};

/// More than a replica needs for a few small uploads, far less than what is thrown at it.
const MEMORY: u64 = 64 << 20;

/// Addresses that look like the allowed one and lead to the trap, or nowhere.
fn disguises(allowed: &str, trap: &str, name: &str) -> Vec<String> {
    let (host, port) = trap.split_once(':').unwrap();
    let allowed_port = allowed.rsplit_once(':').unwrap().1;
    vec![
        format!("http://{trap}/r1/{name}"),
        format!("http://{allowed}@{trap}/r1/{name}"),
        format!("http://{trap}\\@{allowed}/r1/{name}"),
        format!("http://{allowed}\\@{trap}/r1/{name}"),
        format!("http://{allowed}%40{trap}/r1/{name}"),
        format!("http://{allowed}%2f@{trap}/r1/{name}"),
        format!("http://{allowed}#@{trap}/r1/{name}"),
        format!("http://{allowed}?@{trap}/r1/{name}"),
        format!("http://{allowed}.{trap}/r1/{name}"),
        format!("http://{host}.:{port}/r1/{name}"),
        format!("http://localhost:{port}/r1/{name}"),
        format!("http://2130706433:{port}/r1/{name}"),
        format!("http://127.0.0.1:{allowed_port}@127.1:{port}/r1/{name}"),
        format!("http:\\\\{trap}\\r1\\{name}"),
        format!("ht\ntp://{trap}/r1/{name}"),
        format!(" http://{trap}/r1/{name}"),
        format!("//{trap}/r1/{name}"),
        format!("https://{allowed}/r1/{name}"),
        format!("ftp://{allowed}/r1/{name}"),
    ]
}

fn origin(world: &World) -> String {
    world.fflow.base_url().trim_start_matches("http://").to_owned()
}

async fn put_route(world: &World, session: Uuid, value: &str) {
    let mut set = redis::cmd("SET");
    set.arg(session.to_string()).arg(value);
    let sandbox = &world.sandbox;
    devstack::servers::redis::command::<()>(&sandbox.redis_host, sandbox.redis_port, sandbox.redis_db, &set)
        .await
        .unwrap();
}

/// An upload that was fed in part and handed over, its route known to Redis alone.
async fn handed_over(world: &World, replica: Replica, client: &Client, file: &[u8]) -> Upload {
    let upload = world.announce_one(file.len()).await;
    client.upload_range(&upload, file, 100_000, 0, 500_000).await;
    let name = upload.session.to_string();
    world
        .wait("all stored bytes to be fed", SOON, async || {
            world.fflow.flow(&name).is_some_and(|flow| flow.bytes == 500_000)
        })
        .await;
    replica.process.stop(Signal::SIGTERM, SOON).await.unwrap();
    world.execute("UPDATE uploader.session SET flow_url = NULL", vec![]).await;
    upload
}

#[tokio::test]
async fn a_poisoned_route_in_redis_leads_nowhere() {
    let world = World::new().await;
    let trap = Trap::set().await;
    let client = world.client().await;
    let file = bytes(70, 1_000_000);
    for variant in [0, 1, 2, 10] {
        let replica = world.replica("one").await;
        let upload = handed_over(&world, replica, &client, &file).await;
        let name = upload.session.to_string();
        let poison = disguises(&origin(&world), &trap.address, &name).swap_remove(variant);
        put_route(&world, upload.session, &poison).await;
        let two = world.replica("two").await;
        client.upload_range(&upload, &file, 100_000, 500_000, file.len()).await;
        world.distributed(&upload).await;
        let next = world.fflow.flow(&format!("{name}~2")).expect("the next generation");
        assert_eq!(next.sha256, sha256(&file), "{poison}");
        assert_eq!(trap.visits(), 0, "{poison}");
        two.process.stop(Signal::SIGTERM, SOON).await.unwrap();
    }
}

#[tokio::test]
async fn a_hostile_flow_url_is_never_called() {
    let world = World::with(RecordingOptions::default(), &[("UPLOADER_FFLOW_REFUSED_PAUSE", "1s")]).await;
    let trap = Trap::set().await;
    let client = world.client().await;
    let replica = world.replica("one").await;
    let file = bytes(71, 300_000);
    let count = disguises("a:1", "b:1", "n").len();
    for variant in 0..count {
        let upload = world.announce_one(file.len()).await;
        let address =
            disguises(&origin(&world), &trap.address, &upload.session.to_string()).swap_remove(variant);
        let rule = FaultRule::on(CallKind::Create, Fault::ForeignAddress(address.clone())).once();
        let rule = world.fflow.inject(rule);
        client.upload(&upload, &file, 100_000).await;
        world.distributed(&upload).await;
        assert_eq!(world.fflow.struck(rule), 1);
        assert_eq!(trap.visits(), 0, "{address:?}");
    }
    let log = std::fs::read_to_string(replica.process.log_path().unwrap()).unwrap();
    assert!(log.contains("UPLOADER_FFLOW_ALLOWED"), "a person learns of it");
}

/// A flow's own address at the rogue.
fn created(own: &str, path: &str) -> Reply {
    Reply::Body(201, format!(r#"{{"status":"success","flowUrl":"http://{own}{path}"}}"#))
}

/// Settings under which a feed does not wait long.
const HASTY: [(&str, &str); 4] = [
    ("UPLOADER_FEED_STRIKE_WAITS", "100ms"),
    ("UPLOADER_FEED_BACKOFF_MIN", "100ms"),
    ("UPLOADER_FEED_BACKOFF_MAX", "500ms"),
    ("UPLOADER_FEED_STRAY_INTERVAL", "300ms"),
];

#[tokio::test]
async fn no_redirect_is_followed_with_anything() {
    let trap = Trap::set().await;
    let calls = [("POST", ""), ("POST", "/push"), ("POST", "/finish"), ("DELETE", "/delete")];
    for (status, (method, verb)) in
        [301, 302, 303, 307, 308].into_iter().cycle().zip(calls.into_iter().cycle().take(8))
    {
        let mut world = World::with(RecordingOptions::default(), &HASTY).await;
        let to = format!("http://{}/r1", trap.address);
        let rogue = Rogue::start(move |own, how, path| {
            let asked = path.rsplit_once('/').map_or("", |(_, last)| last);
            let create = !["push", "finish", "delete"].contains(&asked);
            // A failed push makes the flow a stray, and strays are deleted.
            match how {
                _ if how == method && (create && verb.is_empty() || !create && path.ends_with(verb)) => {
                    Reply::Redirect(status, format!("{to}{path}"))
                }
                "POST" if create => created(own, path),
                "POST" if verb == "/delete" && asked == "push" => Reply::Body(500, String::new()),
                _ => Reply::Body(201, "{}".to_owned()),
            }
        })
        .await;
        world.set("FFLOW_BASE_URL", rogue.url());
        let _replica = world.replica("one").await;
        let upload = world.announce_one(300_000).await;
        world.client().await.upload(&upload, &bytes(72, 300_000), 100_000).await;
        let what = format!("a {status} of {method} {verb}");
        let end = if verb.is_empty() { upload.session.to_string() } else { verb.to_owned() };
        world.wait(&what, SOON, async || rogue.asked(method, &end) > 0).await;
        // One call later everything that could follow the redirect has.
        world.wait("the next call", SOON, async || rogue.asked("POST", "") > 1).await;
        assert_eq!(trap.visits(), 0, "{what}");
    }
}

#[tokio::test]
async fn a_holder_that_redirects_or_never_ends_is_no_holder() {
    let trap = Trap::set().await;
    let to = format!("http://{}/m", trap.address);
    let redirect = Reply::Redirect(302, to);
    for (reply, reason) in [(redirect, "302"), (Reply::EndlessHead, ""), (Reply::EndlessBody, "longer than")]
    {
        let mut world = World::with(RecordingOptions::default(), &HASTY).await;
        let rogue = Rogue::start(move |_, _, _| reply.clone()).await;
        world.set("UPLOADER_HOLDER_BASE_URL", rogue.url());
        let replica = world.replica("one").await;
        let before = memory(&replica);
        let upload = world.announce_one(300_000).await;
        world.client().await.upload(&upload, &bytes(73, 300_000), 100_000).await;
        world.wait("three looks", SOON, async || rogue.asked("GET", "/manifest.mpd") >= 3).await;
        assert_eq!(trap.visits(), 0);
        assert!(memory(&replica) < before + MEMORY, "{} bytes from {before}", memory(&replica));
        let last = "SELECT last_error FROM uploader.session WHERE session_id = $1";
        let last = world.text(last, upload.session).await.unwrap_or_default();
        assert!(last.contains(reason), "{last}");
        assert_ne!(world.video_status(&upload).await.as_deref(), Some("DISTRIBUTED"));
    }
}

/// The most memory that a replica has had so far, in bytes.
fn memory(replica: &Replica) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", replica.process.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
}

#[tokio::test]
async fn an_fflow_that_never_ends_its_answers_costs_neither_memory_nor_other_sessions() {
    for (reply, verb) in [
        (Reply::EndlessBody, ""),
        (Reply::EndlessHead, ""),
        (Reply::Drip, ""),
        (Reply::EndlessBody, "/push"),
        (Reply::EndlessHead, "/push"),
    ] {
        let mut world = World::with(RecordingOptions::default(), &HASTY).await;
        let rogue = Rogue::start(move |own, _, path| {
            let create = !path.ends_with("/push") && !path.ends_with("/delete");
            match path {
                _ if path.ends_with("/delete") => Reply::Body(200, "{}".to_owned()),
                _ if create == verb.is_empty() => reply.clone(),
                _ => created(own, path),
            }
        })
        .await;
        world.set("FFLOW_BASE_URL", rogue.url());
        let replica = world.replica("one").await;
        let client = world.client().await;
        let before = memory(&replica);
        let upload = world.announce_one(600_000).await;
        client.upload(&upload, &bytes(74, 600_000), 100_000).await;
        // The first call has ended when there is a second.
        world.wait("a second try", SOON, async || asked(&rogue, verb) >= 2).await;
        let began = Instant::now();
        let other = world.announce_one(1000).await;
        assert!(client.send(&other, 0, &[7; 500]).await.is_ack());
        assert!(began.elapsed() < Duration::from_secs(5), "another session waited {:?}", began.elapsed());
        let grown = memory(&replica) - before;
        assert!(grown < MEMORY, "{grown} bytes for {} taken", rogue.given());
    }
}

/// Creates, or pushes.
fn asked(rogue: &Rogue, verb: &str) -> usize {
    let pushes = rogue.asked("POST", "/push");
    if verb.is_empty() { rogue.asked("POST", "") - pushes } else { pushes }
}

/// Session ids that want to be paths, addresses, commands or log lines.
fn hostile_ids() -> Vec<Vec<u8>> {
    let good = Uuid::new_v4().to_string();
    let texts = [
        "../../etc/sesame",
        "..",
        "sesame/../../x",
        "%2e%2e%2fsesame",
        "/etc/sesame",
        "\u{1b}[31msesame",
        "\nERROR sesame",
        "sesame\r\nDEL x\r\n",
        "\0sesame",
        "http://sesame/",
        "'; DROP TABLE videos; -- sesame",
    ];
    let mut ids: Vec<Vec<u8>> = texts.iter().map(|text| text.as_bytes().to_vec()).collect();
    ids.extend(
        [format!("{good}/../sesame"), format!("{good}\n"), format!(" {good}")].map(String::into_bytes),
    );
    ids.push(vec![0xff, 0xfe, b's', b'e', b's', b'a', b'm', b'e']);
    // The whole of a header has to fit into one frame of 128 KiB: no broker passes on a longer one.
    ids.push(b"sesame".repeat(20_000));
    ids
}

#[tokio::test]
async fn hostile_session_ids_are_answered_and_go_nowhere() {
    let world =
        World::with(RecordingOptions::default(), &[("UPLOADER_LOG_FILTER", "uploader_v4=trace,info")]).await;
    let replica = world.replica("one").await;
    let client = world.client().await;
    let folders = || {
        let entries = std::fs::read_dir(&world.spool).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect::<Vec<_>>()
    };
    let before = folders();
    for id in hostile_ids() {
        let correlation = Uuid::new_v4().to_string();
        let receiver = client.expect(&correlation);
        let mut table: FieldTable = headers("", 0, 1, &correlation);
        table.insert("x-session-id".into(), AMQPValue::LongString(id.clone().into()));
        client.publish(table, b"x").await;
        let refused = answer(receiver).await;
        let reason = refused.reason();
        assert!(reason.contains("x-session-id") && reason.len() < 300, "{reason}");
        assert!(!reason.contains("sesame") && !reason.contains(char::is_control), "{reason:?}");
    }
    assert_eq!(folders(), before, "no path was made");
    assert!(world.fflow.calls().is_empty(), "no address was called");
    let sandbox = &world.sandbox;
    let keys: i64 = devstack::servers::redis::command(
        &sandbox.redis_host,
        sandbox.redis_port,
        sandbox.redis_db,
        &redis::cmd("DBSIZE"),
    )
    .await
    .unwrap();
    assert_eq!(keys, 0, "no key was asked for or made");
    let log = std::fs::read(replica.process.log_path().unwrap()).unwrap();
    let log = String::from_utf8(log).expect("a log in UTF-8");
    assert!(!log.contains("sesame") && !log.contains('\0') && !log.contains('\u{1b}'), "{log}");
    assert_eq!(world.query("SELECT 1 FROM uploader.session", vec![]).await.len(), 0);
}

#[tokio::test]
async fn hostile_correlation_ids_come_back_as_they_are_and_break_no_log_line() {
    let world =
        World::with(RecordingOptions::default(), &[("UPLOADER_LOG_FILTER", "uploader_v4=trace,info")]).await;
    let replica = world.replica("one").await;
    let client = world.client().await;
    for correlation in ["\u{1b}[31msesame", "x\nERROR sesame", "\r\nsesame", "\u{85}sesame"] {
        let receiver = client.expect(correlation);
        client.publish(headers("no id", 0, 1, correlation), b"x").await;
        assert_eq!(answer(receiver).await.status, "nack");
    }
    // Its reply's routing key has more words than the shared binding: only a queue of its own could get it.
    client.publish(headers("no id", 0, 1, "../../sesame"), b"x").await;
    world
        .wait("its reply to be dropped", SOON, async || {
            replica.process.log_tail(5).contains("the asker is gone")
        })
        .await;
    let log = std::fs::read_to_string(replica.process.log_path().unwrap()).unwrap();
    assert!(!log.contains('\u{1b}') && !log.contains('\u{85}'), "{log}");
    assert!(!log.contains("the chunk goes back"), "{log}");
    assert!(!log.lines().any(|line| line.starts_with("ERROR sesame") || line.starts_with("sesame")), "{log}");
}
