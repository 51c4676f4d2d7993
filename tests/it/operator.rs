//! What an operator asks: `check`, `healthcheck` and `replicas ls`, the real program against real servers.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use devstack::TcpProxy;
use lapin::options::{BasicConsumeOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{Connection, ConnectionProperties};
use serde_json::Value;
use url::Url;
use uuid::Uuid;

use crate::world::{Plan, Ran, Replica, SOON, World, bytes};

/// All that `check` looks at, in its order.
const ITEMS: [&str; 17] = [
    "settings",
    "database",
    "durability",
    "schema",
    "shared_tables",
    "rights",
    "broker",
    "topology",
    "consumers",
    "spool",
    "spool_id",
    "spool_space",
    "redis",
    "fflow",
    "holder",
    "replicas",
    "janitor",
];

/// The test servers trade this for speed, and what else shares their disk is not theirs to say.
const NOT_OURS: [&str; 2] = ["durability", "spool_space"];

/// A check's answer, item by item.
struct Checked {
    ran: Ran,
    items: BTreeMap<String, Value>,
}

impl Checked {
    async fn with(world: &World, settings: &[(&str, &str)]) -> Self {
        let ran = world.command_with(&["check", "--json"], settings).await;
        let answer = ran.json();
        let items = answer["items"].as_array().unwrap();
        let names: Vec<&str> = items.iter().map(|item| item["name"].as_str().unwrap()).collect();
        assert_eq!(names, ITEMS, "all items, whatever is wrong");
        assert_eq!(answer["well"].as_bool().unwrap(), ran.code == 0, "{ran:?}");
        let items = items.iter().map(|item| (item["name"].as_str().unwrap().to_owned(), item.clone()));
        Checked { items: items.collect(), ran }
    }

    fn text(&self, name: &str, field: &str) -> &str {
        self.items[name][field].as_str().unwrap_or_default()
    }

    fn state(&self, name: &str) -> &str {
        self.text(name, "state")
    }

    /// Names of the items in this state, without those that the test servers are to blame for.
    fn in_state(&self, state: &str) -> Vec<&str> {
        ITEMS.into_iter().filter(|name| self.state(name) == state && !NOT_OURS.contains(name)).collect()
    }

    /// The item is in this state, for this reason, and this mends it.
    #[track_caller]
    fn says(&self, name: &str, state: &str, found: &str, mend: &str) {
        let item = &self.items[name];
        assert_eq!(self.state(name), state, "{item}");
        assert!(self.text(name, "found").contains(found), "{item}");
        assert!(self.text(name, "mend").contains(mend), "{item}");
        assert_eq!(self.ran.code, i32::from(!self.in_state("wrong").is_empty()), "{:?}", self.ran);
    }
}

#[tokio::test]
async fn a_well_installation_is_well_and_strictly_only_without_warnings() {
    let world = World::new().await;
    let _replica = world.replica("one").await;
    consuming(&world, 1).await;
    let checked = Checked::with(&world, &[]).await;
    assert_eq!(checked.in_state("ok").len(), ITEMS.len() - NOT_OURS.len(), "{}", checked.ran.stdout);
    assert_eq!(checked.ran.code, 0);
    assert!(checked.text("replicas", "found").starts_with("1 alive, 1 of them consuming"));
    // The test's database is fast and loose.
    checked.says("durability", "warning", "fsync = off", "ALTER SYSTEM");
    let strict = world.command(&["check", "--strict"]).await;
    assert_eq!(strict.code, 1, "{strict:?}");
    assert!(strict.stdout.contains("\nnot well: ") && strict.stdout.contains("-> set fsync"), "{strict:?}");
}

#[tokio::test]
async fn before_the_first_start_nothing_is_wrong_and_nothing_is_made() {
    let world = World::new().await;
    let before = Traces::of(&world).await;
    let checked = Checked::with(&world, &[]).await;
    checked.says("schema", "warning", "absent", "uploader-v4 migrate");
    checked.says("topology", "ok", "absent: the service declares them when it starts", "");
    for name in ["consumers", "spool_id", "replicas", "janitor"] {
        assert_eq!(checked.state(name), "skipped");
    }
    let refused = world.command(&["replicas", "ls"]).await;
    assert_eq!(refused.code, 1);
    assert!(refused.stderr.contains("run `uploader-v4 migrate`"), "{refused:?}");
    assert_eq!(Traces::of(&world).await, before);
    assert_eq!(before.schema, "");

    let by_hand = Checked::with(&world, &[("UPLOADER_DATABASE_MIGRATE", "false")]).await;
    by_hand.says("schema", "wrong", "absent", "uploader-v4 migrate");
}

#[tokio::test]
async fn looking_leaves_no_trace_in_an_installation_at_rest() {
    let world = World::new().await;
    let replica = world.replica("one").await;
    let client = world.client().await;
    let file = bytes(60, 400_000);
    let upload = world.announce_one(file.len()).await;
    client.upload_range(&upload, &file, 100_000, 0, 300_000).await;
    drop(client);
    // Killed: its row, its session and its bytes stay as they are.
    drop(replica);
    let before = Traces::of(&world).await;
    for command in [&["check"][..], &["check", "--strict", "--json"], &["replicas", "ls"]] {
        let ran = world.command(command).await;
        assert!(!ran.stdout.is_empty() && ran.stderr.is_empty(), "{ran:?}");
    }
    assert_eq!(Traces::of(&world).await, before);
    assert!(before.rows.contains(&upload.session.to_string()) && before.files.len() >= 3, "{before:?}");
}

#[tokio::test]
async fn a_database_that_is_away_is_named_and_the_rest_is_looked_at_all_the_same() {
    let world = World::new().await;
    let mut url = Url::parse(&world.sandbox.database_url).unwrap();
    url.set_port(Some(1)).unwrap();
    url.set_password(Some("hunter2")).unwrap();
    let settings = [("DB_CONNECTION_STRING", url.as_str())];
    let checked = Checked::with(&world, &settings).await;
    checked.says("database", "wrong", "refused", "DB_CONNECTION_STRING");
    for name in ["durability", "schema", "shared_tables", "rights", "consumers", "spool_id", "replicas"] {
        assert_eq!(checked.state(name), "skipped");
        assert!(!checked.text(name, "found").is_empty());
    }
    for name in ["broker", "topology", "redis", "spool", "fflow", "holder"] {
        assert_eq!(checked.state(name), "ok");
    }
    let text = world.command_with(&["check"], &settings).await;
    let printed = format!("{text:?}{:?}", checked.ran);
    assert!(!printed.contains("hunter2"), "{printed}");
}

#[tokio::test]
async fn a_database_that_does_not_fit_is_named_with_what_mends_it() {
    let world = World::new().await;
    assert_eq!(world.command(&["migrate"]).await.code, 0);
    let by_hand = [("UPLOADER_DATABASE_MIGRATE", "false")];
    world.execute("UPDATE uploader.service SET schema_version = schema_version - 1", vec![]).await;
    let checked = Checked::with(&world, &by_hand).await;
    checked.says("schema", "wrong", "older than this program's", "uploader-v4 migrate");
    assert_eq!(checked.state("replicas"), "skipped");
    world.execute("UPDATE uploader.service SET schema_version = schema_version + 3", vec![]).await;
    Checked::with(&world, &[]).await.says("schema", "wrong", "this program knows", "newer uploader-v4");
    world.execute("UPDATE uploader.service SET schema_version = schema_version - 1", vec![]).await;
    Checked::with(&world, &by_hand).await.says("schema", "ok", "one newer", "");

    let database = &world.sandbox.database_name;
    let set = |what: &str| format!("ALTER DATABASE {database} SET {what}");
    world.execute(&set("synchronous_commit = off"), vec![]).await;
    let checked = Checked::with(&world, &[]).await;
    checked.says("durability", "warning", "synchronous_commit = off", "to on");
    world.execute(&set("default_transaction_read_only = on"), vec![]).await;
    Checked::with(&world, &[]).await.says("database", "wrong", "takes no writes", "primary");
}

#[tokio::test]
async fn shared_tables_that_are_absent_are_named() {
    let world = World::planned(Plan { columns: None, ..Plan::default() }).await;
    let checked = Checked::with(&world, &[]).await;
    checked.says(
        "shared_tables",
        "wrong",
        "users, videos, flows, upload_sessions",
        "migrate --shared-tables",
    );
    migration::shared_tables(&world.db, migration::ByteColumns::Integer).await.unwrap();
    Checked::with(&world, &[]).await.says("shared_tables", "ok", "2147483647", "");
}

#[tokio::test]
async fn rights_that_are_lacking_are_named_with_the_statements_that_grant_them() {
    let world = World::new().await;
    assert_eq!(world.command(&["migrate"]).await.code, 0);
    let role = format!("{}_role", world.sandbox.database_name);
    world.execute(&format!("CREATE ROLE {role} LOGIN"), vec![]).await;
    let mut url = Url::parse(&world.sandbox.database_url).unwrap();
    url.set_username(&role).unwrap();
    let settings = [("DB_CONNECTION_STRING", url.as_str())];
    let checked = Checked::with(&world, &settings).await;
    checked.says("rights", "wrong", "USAGE ON SCHEMA uploader", "GRANT USAGE ON SCHEMA uploader");
    // The tables inside are seen once the schema is.
    for _ in 0..2 {
        let checked = Checked::with(&world, &settings).await;
        let mend = checked.text("rights", "mend");
        for grant in mend.strip_prefix("as the owner: ").unwrap().split_inclusive(';') {
            world.execute(grant, vec![]).await;
        }
    }
    let checked = Checked::with(&world, &settings).await;
    checked.says("rights", "ok", &role, "");
    assert_eq!(checked.in_state("wrong"), Vec::<&str>::new(), "{}", checked.ran.stdout);
    // It can do the service's work with just these.
    let replica = world.replica_unready("one", &settings).await;
    replica.ready().await;
    let client = world.client().await;
    let file = bytes(61, 300_000);
    let upload = world.announce_one(file.len()).await;
    client.upload(&upload, &file, 100_000).await;
    world.distributed(&upload).await;
    world.nothing_left(&upload).await;
    drop(replica);
    for statement in [format!("DROP OWNED BY {role}"), format!("DROP ROLE {role}")] {
        world.execute(&statement, vec![]).await;
    }
}

#[tokio::test]
async fn a_broker_that_is_away_or_lets_nobody_in_is_named_without_the_password() {
    let world = World::new().await;
    let changed = |change: &dyn Fn(&mut Url)| {
        let mut url = Url::parse(&world.sandbox.amqp_url).unwrap();
        change(&mut url);
        url.to_string()
    };
    let away = changed(&|url| url.set_port(Some(1)).unwrap());
    let stranger = world.wrong_password();
    let nowhere = changed(&|url| url.set_path("/no-such-vhost"));
    for (url, found, mend) in [
        (&away, "refused", "RabbitMQ runs there"),
        (&stranger, "ACCESS_REFUSED", "password"),
        (&nowhere, "no-such-vhost", "vhost"),
    ] {
        let checked = Checked::with(&world, &[("AMQP_CONNECTION_STRING", url)]).await;
        checked.says("broker", "wrong", found, mend);
        assert_eq!((checked.state("topology"), checked.state("consumers")), ("skipped", "skipped"));
        assert!(!format!("{:?}", checked.ran).contains("no-such-password"), "{:?}", checked.ran);
    }
}

#[tokio::test]
async fn another_uploader_on_the_same_queue_is_noticed() {
    let world = World::new().await;
    let _replica = world.replica("one").await;
    Checked::with(&world, &[]).await.says("consumers", "ok", "chunk-upload has 1 consumer and", "");
    let connection =
        Connection::connect(&world.sandbox.amqp_url, ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    let (options, none) = (BasicConsumeOptions::default(), FieldTable::default());
    let _other = channel.basic_consume("chunk-upload".into(), "other".into(), options, none).await.unwrap();
    let checked = Checked::with(&world, &[]).await;
    checked.says(
        "consumers",
        "warning",
        "has 2 consumers and 0 chunks waiting; 1 living replica",
        "another uploader",
    );
}

#[tokio::test]
async fn neighbours_that_are_away_are_named_and_redis_is_only_a_warning() {
    let world = World::new().await;
    let checked = Checked::with(&world, &[("FFLOW_CACHE_PORT", "1")]).await;
    checked.says("redis", "warning", "refused", "FFLOW_CACHE_HOST");
    assert_eq!(checked.ran.code, 0);
    let checked = Checked::with(&world, &[("FFLOW_BASE_URL", "http://127.0.0.1:1/")]).await;
    checked.says("fflow", "wrong", "refused", "FFLOW_BASE_URL");
    let checked = Checked::with(&world, &[("UPLOADER_HOLDER_BASE_URL", "http://127.0.0.1:1/")]).await;
    checked.says("holder", "wrong", "refused", "UPLOADER_HOLDER_BASE_URL");
    let checked = Checked::with(&world, &[("UPLOADER_HOLDER_BASE_URL", "")]).await;
    checked.says("holder", "warning", "fflow's word is believed", "UPLOADER_HOLDER_BASE_URL");
    assert!(world.fflow.flows().is_empty(), "nothing was started there");
}

#[tokio::test]
async fn a_spool_that_is_foreign_absent_or_takes_nothing_is_named() {
    let world = World::new().await;
    let _replica = world.replica("one").await;
    let folder = |name: &str| world.workspace.folder(name).unwrap().display().to_string();
    let at = async |dir: &str| Checked::with(&world, &[("UPLOADER_SPOOL_DIR", dir)]).await;

    let empty = at(&folder("empty")).await;
    empty.says("spool_id", "wrong", "no marker is here", "mount the shared volume");
    let other = folder("other");
    std::fs::write(Path::new(&other).join("spool-id"), Uuid::new_v4().to_string()).unwrap();
    at(&other).await.says("spool_id", "wrong", "theirs is", "UPLOADER_SPOOL_DIR");
    let absent = at(&format!("{other}/not/there")).await;
    absent.says("spool", "warning", "is not there", "mount the volume");
    assert_eq!(absent.state("spool_id"), "wrong");
    assert!(!Path::new(&other).join("not").exists(), "nothing is made");
    at("/proc").await.says("spool", "wrong", "cannot be written", "UPLOADER_SPOOL_DIR");
    at(&format!("{other}/spool-id/in")).await.says(
        "spool",
        "wrong",
        "cannot be written",
        "set UPLOADER_SPOOL_DIR",
    );
}

#[tokio::test]
async fn servers_that_accept_and_say_nothing_cost_their_deadline_and_not_more() {
    let world = World::new().await;
    let fflow = Url::parse(&world.fflow.base_url()).unwrap();
    let mut proxies = Vec::new();
    let mut silent = async |url: &str| {
        let mut url = Url::parse(url).unwrap();
        let target = format!("127.0.0.1:{}", url.port().unwrap()).parse().unwrap();
        let proxy = TcpProxy::start(target).await.unwrap();
        proxy.stall(true);
        url.set_port(Some(proxy.port())).unwrap();
        proxies.push(proxy);
        url.to_string()
    };
    let amqp = silent(&world.sandbox.amqp_url).await;
    let database = silent(&world.sandbox.database_url).await;
    let redis = silent(&world.sandbox.redis_url()).await;
    let fflow = silent(fflow.as_str()).await;
    let settings = [
        ("AMQP_CONNECTION_STRING", amqp.as_str()),
        ("DB_CONNECTION_STRING", database.as_str()),
        ("FFLOW_CACHE_URL", redis.as_str()),
        ("FFLOW_BASE_URL", fflow.as_str()),
        ("UPLOADER_HOLDER_BASE_URL", fflow.as_str()),
    ];
    let begun = Instant::now();
    let checked = Checked::with(&world, &settings).await;
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    assert_eq!(checked.in_state("wrong"), ["database", "broker", "fflow", "holder"]);
    assert_eq!(checked.state("redis"), "warning");
}

async fn healthcheck(world: &World, port: u16, more: &[&str]) -> Ran {
    let addr = format!("127.0.0.1:{port}");
    let arguments = [&["healthcheck"], more].concat();
    world.command_with(&arguments, &[("UPLOADER_HTTP_ADDR", &addr)]).await
}

#[tokio::test]
async fn a_healthcheck_tells_a_ready_replica_from_an_unready_one_and_from_none() {
    let world = World::new().await;
    let replica = world.replica("one").await;
    let ran = healthcheck(&world, replica.port, &[]).await;
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "well\n"), "{ran:?}");
    let everywhere = format!("0.0.0.0:{}", replica.port);
    let ran = world.command_with(&["healthcheck"], &[("UPLOADER_HTTP_ADDR", &everywhere)]).await;
    assert_eq!(ran.code, 0, "every address is asked on loopback: {ran:?}");
    let by_name = format!("localhost:{}", replica.port);
    assert_eq!(world.command(&["healthcheck", "--addr", &by_name]).await.code, 0);

    let no_database = ("DB_CONNECTION_STRING", "postgresql://postgres@127.0.0.1:1/none");
    let unready = world.replica_unready("two", &[no_database]).await;
    unready_and_says(&world, &unready, "refused").await;
    let ran = healthcheck(&world, unready.port, &[]).await;
    assert_eq!(ran.code, 1);
    assert!(ran.stdout.lines().count() == 1 && ran.stdout.contains("database: "), "{ran:?}");
    let live = healthcheck(&world, unready.port, &["--live"]).await;
    assert_eq!(live.code, 0, "it waits, which is no reason to end it: {live:?}");

    let ran = healthcheck(&world, unready.port, &["--json"]).await;
    let answer = ran.json();
    assert_eq!((ran.code, answer["well"].as_bool(), answer["status"].as_u64()), (1, Some(false), Some(503)));
    let port = unready.port;
    drop(unready);
    let ran = healthcheck(&world, port, &["--json", "--timeout", "1s"]).await;
    assert_eq!((ran.code, ran.json()["status"].is_null()), (1, true), "{ran:?}");
    assert_eq!(healthcheck(&world, port, &["--timeout", "1h"]).await.code, 2, "out of bounds");
}

/// Waits for the heartbeats that say so: they follow within seconds of the consumers.
async fn consuming(world: &World, replicas: usize) {
    let told = "SELECT 1 FROM uploader.replica WHERE consuming";
    world.wait("consuming replicas", SOON, async || world.query(told, vec![]).await.len() == replicas).await;
}

async fn unready_and_says(world: &World, replica: &Replica, reason: &str) {
    world
        .wait("readiness to give its reason", SOON, async || {
            let (status, body) = replica.readyz().await;
            status == 503 && body.contains(reason)
        })
        .await;
}

#[tokio::test]
async fn replicas_are_listed_alive_and_dead_with_what_they_feed_and_the_farm_they_met() {
    let mut world = World::new().await;
    world.set("UPLOADER_LEASE", "2s".into());
    world.set("UPLOADER_REPLICA_HEARTBEAT", "500ms".into());
    let _one = world.replica("one").await;
    let two = world.replica("two").await;
    consuming(&world, 2).await;
    let client = world.client().await;
    let file = bytes(62, 600_000);
    let (whole, half) = (world.announce_one(file.len()).await, world.announce_one(file.len()).await);
    client.upload(&whole, &file, 100_000).await;
    client.upload_range(&half, &file, 100_000, 0, 300_000).await;
    world.distributed(&whole).await;
    world.owner(&half).await;
    world
        .wait("the finish to be reported", SOON, async || {
            let told = "SELECT 1 FROM uploader.fflow_replica WHERE last_finish_ok IS NOT NULL";
            !world.query(told, vec![]).await.is_empty()
        })
        .await;

    let listed = world.command(&["replicas", "ls", "--json"]).await.json();
    let replicas = listed["replicas"].as_array().unwrap();
    let names: Vec<&str> = replicas.iter().map(|replica| replica["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["one", "two"]);
    for replica in replicas {
        assert_eq!((&replica["alive"], &replica["consuming"]), (&true.into(), &true.into()), "{replica}");
        assert!((1..=2000).contains(&replica["lease_left_ms"].as_i64().unwrap()), "{replica}");
        assert!(replica["started_at"].as_str().unwrap().ends_with('Z'), "{replica}");
    }
    let feeds: i64 = replicas.iter().map(|replica| replica["feeds"].as_i64().unwrap()).sum();
    assert_eq!(feeds, 1, "the upload in its middle");
    let farm = listed["fflow_replicas"].as_array().unwrap();
    assert!(farm.iter().any(|fflow| fflow["last_push_ok"].is_string()), "{listed}");
    assert!(farm.iter().any(|fflow| fflow["last_finish_ms"].is_i64()), "{listed}");
    let spool_id = std::fs::read_to_string(world.spool.join("spool-id")).unwrap();
    assert_eq!(listed["service"]["spool_id"].as_str(), Some(spool_id.trim()));
    assert!(listed["service"]["consuming_since"].is_string());
    assert_eq!(listed["service"]["schema_version"].as_i64(), Some(migration::SCHEMA_VERSION.into()));

    two.process.kill().await.unwrap();
    world
        .wait("the killed one to be listed dead", SOON, async || {
            let ran = world.command(&["replicas", "ls"]).await;
            let line =
                |name: &str| ran.stdout.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
            assert!(line("one").contains("alive, lease"), "{ran:?}");
            line("two").contains("dead for")
        })
        .await;
}

#[tokio::test]
async fn what_cannot_be_understood_ends_with_2_and_help_teaches() {
    let world = World::new().await;
    for arguments in [&["nonsense"][..], &["sessions", "ls", "--state", "odd"], &["replicas"]] {
        assert_eq!(world.command(arguments).await.code, 2, "{arguments:?}");
    }
    let misconfigured = world.command_with(&["check"], &[("UPLOADER_PREFETCH", "many")]).await;
    assert!(
        misconfigured.code == 2 && misconfigured.stderr.contains("UPLOADER_PREFETCH"),
        "{misconfigured:?}"
    );
    let help = world.command(&["--help"]).await;
    assert!(help.code == 0 && help.stdout.contains("Exit codes"), "{help:?}");
}

/// Everything that a command could have changed.
#[derive(Debug, PartialEq)]
struct Traces {
    /// Tables of the schema, with their columns.
    schema: String,
    rows: String,
    /// Names, lengths and times of the spool's folders and files.
    files: Vec<String>,
    queues: [bool; 2],
    flows: usize,
    redis_keys: i64,
}

impl Traces {
    async fn of(world: &World) -> Self {
        let schema = "SELECT coalesce(string_agg(table_name || '.' || column_name, ' ' ORDER BY 1), '') \
                      FROM information_schema.columns WHERE table_schema = 'uploader' AND $1::uuid IS NOT NULL";
        let schema = world.text(schema, Uuid::nil()).await.unwrap();
        let mut rows = String::new();
        if !schema.is_empty() {
            for table in ["replica", "service", "session", "run", "stray", "fflow_replica"] {
                let all = format!(
                    "SELECT string_agg(t::text || t.ctid::text || t.xmin::text, ' ' ORDER BY t::text) \
                     FROM uploader.{table} t WHERE $1::uuid IS NOT NULL"
                );
                rows.push_str(&world.text(&all, Uuid::nil()).await.unwrap_or_default());
            }
        }
        let size = redis::cmd("DBSIZE");
        let (host, port) = (&world.sandbox.redis_host, world.sandbox.redis_port);
        let redis_keys =
            devstack::servers::redis::command(host, port, world.sandbox.redis_db, &size).await.unwrap();
        let (upload, reply) = (queue(world, "chunk-upload").await, queue(world, "chunk-reply").await);
        let flows = world.fflow.flows().len();
        Traces { schema, rows, files: listing(&world.spool), queues: [upload, reply], flows, redis_keys }
    }
}

/// Whether a queue is there, asked as its owner would.
async fn queue(world: &World, name: &str) -> bool {
    let connection =
        Connection::connect(&world.sandbox.amqp_url, ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(name.into(), options, FieldTable::default()).await.is_ok()
}

fn listing(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let meta = path.metadata().unwrap();
        found.push(format!("{} {} {:?}", path.display(), meta.len(), meta.modified().unwrap()));
        if meta.is_dir() {
            found.extend(listing(&path));
        }
    }
    let meta = folder.metadata().unwrap();
    found.push(format!("{} {:?}", folder.display(), meta.modified().unwrap()));
    found.sort();
    found
}
