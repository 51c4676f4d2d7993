//! `janitor --once`: one run, seen from outside.

use std::process::Stdio;

use serde_json::Value;
use uuid::Uuid;

use super::*;

/// How a command ended, and what it said.
pub struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|_| panic!("{}\n{}", self.stdout, self.stderr))
    }

    /// The report of a run that cleaned everything.
    pub fn clean(&self) -> Value {
        assert_eq!(self.code, 0, "{}\n{}", self.stdout, self.stderr);
        self.json()
    }
}

/// Runs `janitor` in the world's surroundings to its end.
pub async fn janitor(world: &World, more: &[(&str, &str)], arguments: &[&str]) -> Ran {
    let command = tokio::process::Command::new(env!("CARGO_BIN_EXE_uploader-v4"))
        .arg("janitor")
        .args(arguments)
        .env_clear()
        .env("DB_CONNECTION_STRING", &world.sandbox.database_url)
        .env("FFLOW_CACHE_HOST", &world.sandbox.redis_host)
        .env("FFLOW_CACHE_PORT", world.sandbox.redis_port.to_string())
        .env("FFLOW_CACHE_DB", world.sandbox.redis_db.to_string())
        .env("FFLOW_BASE_URL", world.fflow.base_url())
        .env("UPLOADER_SPOOL_DIR", &world.spool)
        .env("VIDEO_TTL", TTL.as_millis().to_string())
        .envs(more.iter().copied())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(LATE, command).await.expect("the janitor does not end").unwrap();
    Ran {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// A session as a replica may have left it.
pub async fn row(world: &World, session: Uuid, of: Option<Upload>, state: &str, ago: &str) {
    let insert = "INSERT INTO uploader.session (session_id, flow_id, video_id, total_bytes, committed, state, \
                  created_at, last_activity, ended_at) SELECT $1, $2, $3, 1000, \
                  CASE WHEN $4 IN ('SEALED', 'DONE') THEN 1000 ELSE 0 END, $4, now() - $5::interval, \
                  now() - $5::interval, CASE WHEN $4 IN ('OPEN', 'SEALED') THEN NULL ELSE now() - $5::interval END";
    let values = vec![
        session.into(),
        of.map(|of| of.flow).into(),
        of.map(|of| of.video).into(),
        state.into(),
        ago.into(),
    ];
    world.execute(insert, values).await;
}

/// Runs it once and returns its report; everything that was due is clean then.
pub async fn one_run(world: &World) -> Value {
    janitor(world, &[], &["--once", "--json"]).await.clean()
}

#[tokio::test]
async fn without_once_it_refuses_and_says_where_the_schedule_belongs() {
    let world = World::new().await;
    let ran = janitor(&world, &[], &[]).await;
    assert_eq!(ran.code, 3, "{}", ran.stderr);
    assert!(ran.stdout.contains("SCHEDULER_CLEAR_UPLOAD_RESOURCES_ENABLED"), "{}", ran.stdout);
}

#[tokio::test]
async fn one_run_leaves_nothing_of_an_abandoned_upload() {
    let world = World::new().await;
    let _replica = world.replica("one").await;
    let client = world.client().await;
    let file = bytes(70, 800_000);
    let upload = world.announce_one(file.len()).await;
    client.upload_range(&upload, &file, 100_000, 0, 500_000).await;
    let name = upload.session.to_string();
    world.wait("its route to be shared", SOON, async || world.route(upload.session).await.is_some()).await;
    takes_chunks_since_long_ago(&world).await;
    forsaken(&world, &upload).await;

    let report = one_run(&world).await;
    assert_eq!(report["videos_deleted"], 1, "{report}");
    assert_eq!(report["sessions_cleaned"], 1, "{report}");
    assert_eq!((&report["error"], &report["more_is_left"]), (&Value::Null, &Value::Bool(false)));
    assert_eq!((world.video_status(&upload).await, world.flow_status(&upload).await), (None, None));
    assert_eq!(world.committed(&upload).await, -1);
    let rest = "SELECT s.state || ' ' || (s.cleaned_at IS NOT NULL) || ' ' || (SELECT count(*) FROM uploader.run) \
                || ' ' || (SELECT count(*) FROM uploader.stray) FROM uploader.session s WHERE session_id = $1";
    assert_eq!(world.text(rest, upload.session).await.as_deref(), Some("EXPIRED true 0 0"));
    assert_eq!(world.route(upload.session).await, None);
    assert!(!world.spool.join(&name).exists());
    assert!(world.fflow.flow(&name).unwrap().deleted, "its process");
    let late = client.send(&upload, 500_000, &file[500_000..600_000]).await;
    assert!(late.reason().contains("expired"), "{late:?}");
}

#[tokio::test]
async fn another_spool_is_refused_and_left_as_it_is() {
    let world = World::new().await;
    let mut replica = world.replica("one").await;
    takes_chunks_since_long_ago(&world).await;
    let upload = world.announce_one(1000).await;
    forsaken(&world, &upload).await;
    let empty = world.workspace.folder("another-spool").unwrap();
    let absent = world.workspace.path().join("no-spool");
    for folder in [&empty, &absent] {
        for arguments in [["--once", "--json"], ["--dry-run", "--json"]] {
            let dir = [("UPLOADER_SPOOL_DIR", folder.to_str().unwrap())];
            let ran = janitor(&world, &dir, &arguments).await;
            assert_eq!(ran.code, 3, "{}\n{}", ran.stdout, ran.stderr);
            assert!(ran.json()["refused"].as_str().unwrap().contains("UPLOADER_SPOOL_DIR"), "{}", ran.stdout);
        }
    }
    assert_eq!(std::fs::read_dir(&empty).unwrap().count(), 0);
    assert!(!absent.exists());
    assert!(world.video_status(&upload).await.is_some());
    replica.process.stop(devstack::Signal::SIGTERM, SOON).await.unwrap();
    replica = world.replica("again").await;
    assert_eq!(replica.readyz().await.0, 200);
}

#[tokio::test]
async fn a_database_without_the_schema_is_refused_and_one_that_is_away_is_named() {
    let world = World::new().await;
    let ran = janitor(&world, &[], &["--once"]).await;
    assert_eq!(ran.code, 3, "{}", ran.stderr);
    assert!(ran.stdout.contains("uploader-v4 migrate"), "{}", ran.stdout);
    let port = devstack::PortLease::take().unwrap();
    let away = format!("postgres://nobody@{}/nothing", port.address());
    let ran = janitor(&world, &[("DB_CONNECTION_STRING", &away)], &["--once"]).await;
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains("the database cannot be reached"), "{}", ran.stderr);
}

#[tokio::test]
async fn redis_and_fflow_that_are_down_delay_the_cleaning_and_do_not_lose_it() {
    let world = World::new().await;
    let _replica = world.replica("one").await;
    let client = world.client().await;
    let file = bytes(71, 800_000);
    let upload = world.announce_one(file.len()).await;
    client.upload_range(&upload, &file, 100_000, 0, 500_000).await;
    world.wait("its route to be shared", SOON, async || world.route(upload.session).await.is_some()).await;
    let name = upload.session.to_string();
    let ran_at = world.fflow.flow(&name).unwrap().replica;
    let refused = world.fflow.inject(FaultRule::on(CallKind::Delete, Fault::Status(503)));
    takes_chunks_since_long_ago(&world).await;
    forsaken(&world, &upload).await;

    let port = devstack::PortLease::take().unwrap().number().to_string();
    let ran = janitor(&world, &[("FFLOW_CACHE_PORT", &port)], &["--once", "--json"]).await;
    assert_eq!(ran.code, 1, "{}", ran.stdout);
    assert!(ran.json()["error"].as_str().unwrap().contains("route"), "{}", ran.stdout);
    assert_eq!(ran.json()["videos_deleted"], 1);
    assert!(!world.spool.join(&name).exists(), "the bytes need no Redis");
    assert!(world.route(upload.session).await.is_some());
    assert!(!world.fflow.flow(&name).unwrap().deleted);

    world.fflow.disarm(refused);
    let report = one_run(&world).await;
    assert_eq!((&report["sessions_cleaned"], &report["strays_gone"]), (&1.into(), &1.into()), "{report}");
    assert_eq!(world.route(upload.session).await, None);
    let flow = world.fflow.flow(&name).unwrap();
    assert!(flow.deleted && flow.replica == ran_at, "{flow:?}");
}

#[tokio::test]
async fn runs_at_the_same_time_do_no_harm() {
    let world = World::new().await;
    alone(&world).await;
    let mut uploads = Vec::new();
    for _ in 0..120 {
        let upload = world.announce_one(1000).await;
        forsaken(&world, &upload).await;
        row(&world, upload.session, Some(upload), "OPEN", "2 h").await;
        std::fs::create_dir(world.spool.join(upload.session.to_string())).unwrap();
        uploads.push(upload);
    }
    let runs: Vec<Value> =
        futures_util::future::join_all([one_run(&world), one_run(&world), one_run(&world)]).await;
    // One passes over what another holds; whoever comes last has nothing left to find.
    let last = one_run(&world).await;
    let all = |name: &str| runs.iter().chain([&last]).map(|run| run[name].as_u64().unwrap()).sum::<u64>();
    assert_eq!(all("videos_deleted"), 120, "{runs:?}");
    for upload in &uploads {
        assert_eq!(world.video_status(upload).await, None);
        world.nothing_left(upload).await;
    }
}
