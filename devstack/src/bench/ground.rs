//! The servers of one benchmark, the echo, and the service with its sink: each in processes of its own.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use devstack::{PortLease, Process, ProcessBuilder, Sandbox, Stack, Workspace, http, wait_until};
use sea_orm::{
    ConnectOptions, ConnectionTrait, Database, DatabaseConnection, DbBackend, QueryResult, Statement,
};
use uuid::Uuid;

use super::content::Content;
use crate::demo::replica::{Uploader, UploaderSettings, program, start};

const TEMPLATE: &str = "bench_template";
const MIGRATION: Duration = Duration::from_secs(60);
const TALK: Duration = Duration::from_secs(10);
/// How long all that is stored may take to be fed after the load has ended.
const DRAIN: Duration = Duration::from_secs(300);

/// What differs from the defaults, and why.
const SETTINGS: [(&str, &str); 4] = [
    // Nothing of the feed is put off: the cost of a chunk includes feeding it.
    ("UPLOADER_FEED_START_BYTES", "1B"),
    // The pace of a push spares a real fflow's memory; the sink takes all at once.
    ("UPLOADER_PUSH_RATE", "1GiB"),
    ("UPLOADER_MAX_FEEDS", "20000"),
    // Announced sizes are far above what is sent.
    ("UPLOADER_SPOOL_MAX_BYTES", "1000000000000000"),
];

/// PostgreSQL that syncs, Redis and RabbitMQ.
pub(crate) struct Ground {
    pub(crate) workspace: Workspace,
    pub(crate) stack: Stack,
    pub(crate) content: Content,
}

impl Ground {
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let workspace = Workspace::new("bench")?;
        let stack = Stack::start_durable(&workspace).await?;
        let ground = Ground { workspace, stack, content: Content::new() };
        let fill = async |url: String| ground.migrate(&url).await;
        ground.stack.endpoints().ensure_template(TEMPLATE, fill).await?;
        Ok(ground)
    }

    async fn migrate(&self, database_url: &str) -> anyhow::Result<()> {
        let builder = program("uploader-v4", "migrate", &self.workspace)?;
        let process = builder
            .env("DB_CONNECTION_STRING", database_url)
            .env("UPLOADER_SPOOL_DIR", self.workspace.folder("spool-of-none")?)
            .args(["migrate", "--shared-tables"])
            .start()?;
        let status = process.wait_exit(MIGRATION).await?;
        if !status.success() {
            bail!("uploader-v4 migrate failed ({status}):\n{}", process.log_tail(15));
        }
        Ok(())
    }

    /// A folder for the disk's own rounds, on the volume of the spool.
    pub(crate) fn disk(&self) -> PathBuf {
        self.workspace.path().join("disk")
    }
}

/// The consumers that answer at once, on a vhost of their own.
pub(crate) struct Echo {
    pub(crate) processes: Vec<Process>,
    pub(crate) amqp_url: String,
    sandbox: Sandbox,
}

impl Echo {
    pub(crate) async fn start(ground: &Ground, replicas: usize) -> anyhow::Result<Self> {
        let sandbox = Sandbox::create(&ground.stack.endpoints(), None).await?;
        let amqp_url = sandbox.amqp_url.clone();
        let mut processes = Vec::new();
        for number in 1..=replicas {
            let builder = program("devstack", &format!("echo-{number}"), &ground.workspace)?;
            processes.push(builder.args(["bench-echo", "--amqp", &amqp_url]).start()?);
        }
        Ok(Echo { processes, amqp_url, sandbox })
    }

    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        drop(self.processes);
        self.sandbox.remove().await
    }
}

/// The service on a database, vhost, Redis database and spool of its own.
pub(crate) struct Service {
    pub(crate) replicas: Vec<Uploader>,
    pub(crate) sink: Process,
    pub(crate) sandbox: Sandbox,
    pub(crate) spool: PathBuf,
    pub(crate) database: DatabaseConnection,
    settings: UploaderSettings,
    sink_url: String,
    _sink_port: PortLease,
}

impl Service {
    /// Starts sink and replicas, ready when this returns.
    pub(crate) async fn start(ground: &Ground, replicas: usize) -> anyhow::Result<Self> {
        let mut service = Self::prepare(ground).await?;
        for number in 1..=replicas {
            service.add_replica(ground, &format!("uploader-{number}")).await?;
        }
        Ok(service)
    }

    /// Everything but replicas.
    pub(crate) async fn prepare(ground: &Ground) -> anyhow::Result<Self> {
        let endpoints = ground.stack.endpoints();
        let sandbox = Sandbox::create(&endpoints, Some(TEMPLATE)).await?;
        let sink_port = PortLease::take()?;
        let sink = program("devstack", "sink", &ground.workspace)?.args([
            "bench-sink",
            "--listen",
            &sink_port.address(),
        ]);
        let sink = start(sink, &sink_port, "/bench/total").await?;
        let sink_url = format!("http://{}", sink_port.address());
        let spool = ground.workspace.folder(&format!("spool-{}", sandbox.database_name))?;
        let settings = UploaderSettings {
            endpoints: devstack::Endpoints { amqp_url: sandbox.amqp_url.clone(), ..endpoints },
            database_url: sandbox.database_url.clone(),
            fflow_url: sink_url.clone(),
            holder_url: String::new(),
            spool: spool.clone(),
        };
        let mut options = ConnectOptions::new(&sandbox.database_url);
        options.max_connections(1).sqlx_logging(false);
        let database = Database::connect(options).await.context("no database")?;
        let (replicas, _sink_port) = (Vec::new(), sink_port);
        Ok(Service { replicas, sink, sandbox, spool, database, settings, sink_url, _sink_port })
    }

    async fn add_replica(&mut self, ground: &Ground, role: &str) -> anyhow::Result<()> {
        let redis_db = self.sandbox.redis_db.to_string();
        let mut environment = SETTINGS.to_vec();
        environment.push(("FFLOW_CACHE_DB", &redis_db));
        self.replicas.push(self.settings.serve_with(role, &environment, &ground.workspace).await?);
        Ok(())
    }

    /// A replica that is not started yet, on this port.
    pub(crate) fn describe(&self, ground: &Ground, port: &PortLease) -> anyhow::Result<ProcessBuilder> {
        let builder = self.settings.describe("uploader", port, &ground.workspace)?;
        Ok(builder.envs(SETTINGS).env("FFLOW_CACHE_DB", self.sandbox.redis_db.to_string()))
    }

    /// Announces uploads as gateway does, one to a video, all at once.
    pub(crate) async fn announce(&self, count: usize, file: u64) -> anyhow::Result<Vec<Uuid>> {
        let sql = "WITH made AS MATERIALIZED (SELECT gen_random_uuid() AS video, gen_random_uuid() AS flow, \
             gen_random_uuid() AS session FROM generate_series(1, $1::bigint)), \
             v AS (INSERT INTO videos (id, title, description, created_at) \
               SELECT video, 'bench', '', now() FROM made), \
             f AS (INSERT INTO flows (id, created_at, video_id) SELECT flow, now(), video FROM made), \
             s AS (INSERT INTO upload_sessions (id, total_bytes, flow_id) \
               SELECT session, $2::bigint, flow FROM made) \
             SELECT session FROM made";
        let count = i64::try_from(count).context("too many uploads")?;
        let file = i64::try_from(file).context("too large a file")?;
        let rows = self.query(sql, vec![count.into(), file.into()]).await?;
        let analyze = "ANALYZE videos, flows, upload_sessions";
        self.database.execute_unprepared(analyze).await.context(analyze)?;
        rows.iter().map(|row| Ok(row.try_get_by_index(0)?)).collect()
    }

    pub(crate) async fn query(
        &self,
        sql: &str,
        values: Vec<sea_orm::Value>,
    ) -> anyhow::Result<Vec<QueryResult>> {
        let statement = Statement::from_sql_and_values(DbBackend::Postgres, sql, values);
        self.database.query_all_raw(statement).await.with_context(|| sql.to_owned())
    }

    /// Waits until the sink has got as many bytes as were stored.
    pub(crate) async fn drained(&self, stored: &HashMap<Uuid, u64>) -> anyhow::Result<()> {
        let expected: u64 = stored.values().sum();
        let fed = async || self.fed().await.is_ok_and(|fed| fed >= expected);
        wait_until("all that was stored is fed", DRAIN, fed).await
    }

    /// Bytes that the sink has got.
    pub(crate) async fn fed(&self) -> anyhow::Result<u64> {
        self.sink_tells("total").await?.parse().context("a strange total of the sink")
    }

    pub(crate) async fn sink_tells(&self, what: &str) -> anyhow::Result<String> {
        let answer = http::get(&format!("{}/bench/{what}", self.sink_url), TALK).await?.success()?;
        String::from_utf8(answer.body).context("the sink speaks no text")
    }

    pub(crate) async fn tell_sink(&self, what: &str, body: &str) -> anyhow::Result<()> {
        let url = format!("{}/bench/{what}", self.sink_url);
        http::request("POST", &url, Some(body), TALK).await?.success().map(drop)
    }

    /// Ends all processes and removes what they left.
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        drop(self.replicas);
        drop(self.sink);
        self.database.close().await?;
        self.sandbox.remove().await?;
        std::fs::remove_dir_all(&self.spool).context("cannot remove the spool")
    }
}
