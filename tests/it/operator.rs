//! What an operator asks of a whole installation.

use std::collections::BTreeSet;
use std::path::Path;

use devstack::Signal;
use serde_json::Value;

use crate::world::{LATE, Plan, Ran, SOON, World};

/// The states of an item, one for each line that it has.
fn states<'a>(checked: &'a Value, name: &str) -> Vec<&'a str> {
    let items = checked["items"].as_array().unwrap().iter();
    items.filter(|item| item["name"] == name).map(|item| item["state"].as_str().unwrap()).collect()
}

async fn check(world: &World, settings: &[(&str, &str)]) -> (Ran, Value) {
    let ran = world.command_with(&["check", "--json"], settings).await;
    let json = ran.json();
    assert_eq!(ran.code == 0, json["well"].as_bool().unwrap(), "{ran:?}");
    (ran, json)
}

/// Each thing that is wrong says how to mend it.
fn wrong(json: &Value, name: &str, mend: &str) {
    assert_eq!(json["well"], false, "{json:#}");
    let item = json["items"]
        .as_array()
        .unwrap()
        .iter()
        .find(|item| item["name"] == name && item["state"] == "wrong");
    let item = item.unwrap_or_else(|| panic!("{name} is not wrong: {json:#}"));
    assert!(item["mend"].as_str().unwrap().contains(mend), "{item:#}");
}

#[tokio::test]
async fn a_well_installation_is_well() {
    let world = World::new().await;
    let _replica = world.replica("one").await;
    let (ran, json) = check(&world, &[]).await;
    assert_eq!(ran.code, 0, "{json:#}");
    for name in ["database", "schema", "shared tables", "spool", "broker", "redis", "fflow", "holder"] {
        let states = states(&json, name);
        assert!(states.contains(&"ok") && !states.contains(&"wrong"), "{name}: {json:#}");
    }
    let text = world.command(&["check"]).await;
    assert!(text.stdout.ends_with("all is well\n"), "{text:?}");
    // The test's server may lose what it has committed: that is a warning, and an error where it is asked for.
    assert_eq!(world.command(&["check", "--strict"]).await.code, 1);
}

#[tokio::test]
async fn whatever_is_wrong_is_named_with_its_mend() {
    let world = World::new().await;
    let replica = world.replica("one").await;
    let (_, json) =
        check(&world, &[("DB_CONNECTION_STRING", "postgresql://postgres@127.0.0.1:1/none")]).await;
    wrong(&json, "database", "DB_CONNECTION_STRING");
    assert_eq!(states(&json, "schema"), ["skipped"]);
    let (_, json) = check(&world, &[("AMQP_CONNECTION_STRING", "amqp://127.0.0.1:1")]).await;
    wrong(&json, "broker", "AMQP_CONNECTION_STRING");
    let (ran, json) = check(&world, &[("AMQP_CONNECTION_STRING", &world.wrong_password())]).await;
    wrong(&json, "broker", "password");
    assert!(!ran.stdout.contains("no-such-password") && !ran.stderr.contains("no-such-password"), "{ran:?}");
    let (_, json) = check(&world, &[("FFLOW_BASE_URL", "http://127.0.0.1:1")]).await;
    wrong(&json, "fflow", "FFLOW_BASE_URL");
    let (_, json) = check(&world, &[("UPLOADER_HOLDER_BASE_URL", "http://127.0.0.1:1")]).await;
    wrong(&json, "holder", "UPLOADER_HOLDER_BASE_URL");
    let elsewhere = world.workspace.folder("elsewhere").unwrap().display().to_string();
    let (_, json) = check(&world, &[("UPLOADER_SPOOL_DIR", &elsewhere)]).await;
    wrong(&json, "spool", "UPLOADER_SPOOL_DIR");
    let (_, json) = check(&world, &[("UPLOADER_SPOOL_DIR", "/no/such/folder")]).await;
    wrong(&json, "spool", "UPLOADER_SPOOL_DIR");
    // Only degraded without it.
    let (ran, json) = check(&world, &[("FFLOW_CACHE_PORT", "1")]).await;
    assert_eq!((ran.code, states(&json, "redis")), (0, vec!["warning"]), "{json:#}");
    let (ran, json) = check(&world, &[("UPLOADER_HOLDER_BASE_URL", "")]).await;
    assert_eq!((ran.code, states(&json, "holder")), (0, vec!["warning"]), "{json:#}");
    drop(replica);
}

#[tokio::test]
async fn a_schema_and_tables_that_are_absent_are_named() {
    let world = World::planned(Plan { columns: None, ..Plan::default() }).await;
    let (_, json) = check(&world, &[("UPLOADER_DATABASE_MIGRATE", "false")]).await;
    wrong(&json, "schema", "uploader-v4 migrate");
    wrong(&json, "shared tables", "--shared-tables");
    let migrated = world.command(&["migrate", "--shared-tables", "--json"]).await;
    assert_eq!(migrated.json()["before"], "Absent", "{migrated:?}");
    world.execute("UPDATE uploader.service SET schema_version = 0", Vec::new()).await;
    let (_, json) = check(&world, &[("UPLOADER_DATABASE_MIGRATE", "false")]).await;
    wrong(&json, "schema", "uploader-v4 migrate");
    world.execute("UPDATE uploader.service SET schema_version = 1000", Vec::new()).await;
    let (_, json) = check(&world, &[]).await;
    wrong(&json, "schema", "newer release");
}

fn listing(folder: &Path) -> BTreeSet<String> {
    std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect()
}

#[tokio::test]
async fn a_check_changes_nothing() {
    let world = World::new().await;
    assert_eq!(world.command(&["check"]).await.code, 0, "before the first start");
    assert!(world.sandbox.queue_depth("chunk-upload").await.unwrap().is_none(), "no queue was declared");
    assert!(listing(&world.spool).is_empty(), "no marker was written");
    let schema = "SELECT 1 FROM pg_namespace WHERE nspname = 'uploader'";
    assert!(world.query(schema, Vec::new()).await.is_empty(), "no schema was made");
}

#[tokio::test]
async fn a_healthcheck_says_what_readyz_says() {
    let world = World::new().await;
    let nobody = world.command(&["healthcheck", "--addr", "127.0.0.1:1", "--timeout", "1s", "--json"]).await;
    assert_eq!((nobody.code, nobody.json()["well"].as_bool()), (1, Some(false)));
    let unready = world
        .replica_unready("unready", &[("DB_CONNECTION_STRING", "postgresql://postgres@127.0.0.1:1/none")])
        .await;
    let address = format!("127.0.0.1:{}", unready.port);
    world.wait("it to listen", SOON, async || unready.readyz().await.0 == 503).await;
    let asked = world.command(&["healthcheck", "--addr", &address]).await;
    assert!(asked.code == 1 && asked.stdout.contains("database"), "{asked:?}");
    assert_eq!(world.command(&["healthcheck", "--live", "--addr", &address]).await.code, 0);
    let ready = world.replica("ready").await;
    let here = format!("0.0.0.0:{}", ready.port);
    let asked = world.command_with(&["healthcheck"], &[("UPLOADER_HTTP_ADDR", &here)]).await;
    assert_eq!(asked.code, 0, "{asked:?}");
}

#[tokio::test]
async fn the_living_and_the_dead_replicas_are_listed() {
    let mut world = World::new().await;
    world.set("UPLOADER_LEASE", "4s".to_owned());
    world.set("UPLOADER_REPLICA_HEARTBEAT", "1s".to_owned());
    let _one = world.replica("one").await;
    let two = world.replica("two").await;
    two.process.signal(Signal::SIGKILL).unwrap();
    let listed = async || world.command(&["replicas", "ls", "--json"]).await.json();
    world
        .wait("the killed one to be dead", LATE, async || {
            let replicas = listed().await["replicas"].as_array().unwrap().clone();
            let alive = |name: &str| {
                replicas.iter().find(|replica| replica["name"] == name).map(|it| it["alive"] == true)
            };
            alive("one") == Some(true) && alive("two") == Some(false)
        })
        .await;
    let text = world.command(&["replicas", "ls"]).await;
    assert!(text.code == 0 && text.stdout.contains("schema version"), "{text:?}");
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
