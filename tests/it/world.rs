//! One test's world: database, vhost and Redis database of its own, a recording fflow, a spool, and as many replicas
//! of the real program as the test starts.

use std::path::PathBuf;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use devstack::{Endpoints, Process, Sandbox, Workspace};
use migration::ByteColumns;
use peers::recording::{RecordingFflow, RecordingOptions};
use sea_orm::{
    ConnectionTrait, Database, DatabaseConnection, DatabaseTransaction, DbBackend, QueryResult, Statement,
    TransactionTrait, Value,
};
use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};
use uuid::Uuid;

use crate::client::Client;

/// For what takes seconds when all is well.
pub const SOON: Duration = Duration::from_secs(30);
/// For what waits for a lease, a broker or an ffmpeg.
pub const LATE: Duration = Duration::from_secs(120);

/// Who uses the machine. How long something takes under a load says nothing while another test loads it too.
static MACHINE: LazyLock<Arc<RwLock<()>>> = LazyLock::new(Arc::default);

/// A world's share of the machine.
enum Share {
    Some { _with: OwnedRwLockReadGuard<()> },
    Whole { _alone: OwnedRwLockWriteGuard<()> },
}

impl Share {
    async fn take(alone: bool) -> Self {
        let machine = MACHINE.clone();
        if alone {
            Share::Whole { _alone: machine.write_owned().await }
        } else {
            Share::Some { _with: machine.read_owned().await }
        }
    }
}

/// What a world may have otherwise.
pub struct Plan {
    pub fflow: RecordingOptions,
    /// Environment variables of every replica, over the harness's own.
    pub settings: Vec<(&'static str, &'static str)>,
    /// Byte columns of the shared tables; `None` for a database without them.
    pub columns: Option<ByteColumns>,
    /// Servers of the test's own, if it is going to hurt them.
    pub endpoints: Option<Endpoints>,
    /// No other world beside it: for what is measured under a load. A test that has another world already would wait
    /// for itself.
    pub alone: bool,
}

impl Default for Plan {
    fn default() -> Self {
        let fflow = RecordingOptions::default();
        let columns = Some(ByteColumns::Integer);
        Plan { fflow, settings: Vec::new(), columns, endpoints: None, alone: false }
    }
}

pub struct World {
    pub sandbox: Sandbox,
    pub fflow: RecordingFflow,
    pub db: DatabaseConnection,
    pub workspace: Workspace,
    pub spool: PathBuf,
    settings: Vec<(String, String)>,
    _share: Share,
}

/// A running replica and its health address.
pub struct Replica {
    pub process: Process,
    pub port: u16,
    _lease: devstack::PortLease,
}

/// How a command ended.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    /// Its answer, asked for with `--json`.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// A file announced in the shared tables, as gateway does it.
#[derive(Debug, Clone, Copy)]
pub struct Upload {
    pub video: Uuid,
    pub flow: Uuid,
    pub session: Uuid,
}

impl World {
    pub async fn new() -> Self {
        Self::with(RecordingOptions::default(), &[]).await
    }

    pub async fn with(fflow: RecordingOptions, settings: &[(&'static str, &'static str)]) -> Self {
        Self::planned(Plan { fflow, settings: settings.to_vec(), ..Plan::default() }).await
    }

    /// One that has the machine for itself.
    pub async fn alone(settings: &[(&'static str, &'static str)]) -> Self {
        Self::planned(Plan { settings: settings.to_vec(), alone: true, ..Plan::default() }).await
    }

    pub async fn planned(plan: Plan) -> Self {
        let share = Share::take(plan.alone).await;
        let shared = || Endpoints::from_env().expect("the tests need servers: run `make test`");
        let endpoints = plan.endpoints.unwrap_or_else(shared);
        let template = match plan.columns {
            Some(columns) => Some(template(&endpoints, columns).await),
            None => None,
        };
        let sandbox = Sandbox::create(&endpoints, template).await.unwrap();
        let db = Database::connect(sandbox.database_url.clone()).await.unwrap();
        let workspace = Workspace::new("it").unwrap();
        let spool = workspace.folder("spool").unwrap();
        let fflow = RecordingFflow::start(plan.fflow).unwrap();
        let settings =
            plan.settings.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        World { sandbox, fflow, db, workspace, spool, settings, _share: share }
    }

    /// Gives every replica to come a setting more.
    pub fn set(&mut self, name: &str, value: String) {
        self.settings.push((name.to_owned(), value));
    }

    /// Starts a replica and waits until it is ready.
    pub async fn replica(&self, name: &str) -> Replica {
        let replica = self.replica_unready(name, &[]).await;
        replica.ready().await;
        replica
    }

    pub async fn replica_unready(&self, name: &str, settings: &[(&str, &str)]) -> Replica {
        let lease = devstack::PortLease::take().unwrap();
        let port = lease.number();
        let process = Process::command(env!("CARGO_BIN_EXE_uploader-v4"))
            .arg("serve")
            .name(name)
            .envs(self.environment())
            .env("UPLOADER_HTTP_ADDR", format!("127.0.0.1:{port}"))
            .env("UPLOADER_REPLICA_NAME", name)
            .envs(settings.iter().copied())
            .log(self.workspace.log(name))
            .start()
            .unwrap();
        Replica { process, port, _lease: lease }
    }

    /// This world's servers and settings, as the program reads them.
    fn environment(&self) -> Vec<(String, String)> {
        let own = [
            ("AMQP_CONNECTION_STRING", self.sandbox.amqp_url.clone()),
            ("AMQP_CONNECTION_POLLING_TIME", "1000".to_owned()),
            ("DB_CONNECTION_STRING", self.sandbox.database_url.clone()),
            ("FFLOW_CACHE_HOST", self.sandbox.redis_host.clone()),
            ("FFLOW_CACHE_PORT", self.sandbox.redis_port.to_string()),
            ("FFLOW_CACHE_DB", self.sandbox.redis_db.to_string()),
            ("FFLOW_BASE_URL", self.fflow.base_url()),
            ("UPLOADER_HOLDER_BASE_URL", self.fflow.holder_url()),
            ("UPLOADER_HOLDER_POLL", "300ms".to_owned()),
            ("UPLOADER_SPOOL_DIR", self.spool.display().to_string()),
            ("UPLOADER_SPOOL_MAX_BYTES", "8GiB".to_owned()),
            ("UPLOADER_LOG_FILTER", "info,uploader_v4=debug".to_owned()),
        ];
        let own = own.into_iter().map(|(name, value)| (name.to_owned(), value));
        own.chain(self.settings.iter().cloned()).collect()
    }

    /// The broker's address with a password that it does not take.
    pub fn wrong_password(&self) -> String {
        let mut url = url::Url::parse(&self.sandbox.amqp_url).unwrap();
        url.set_username("guest").unwrap();
        url.set_password(Some("no-such-password")).unwrap();
        url.to_string()
    }

    /// Runs one command to its end.
    pub async fn command(&self, arguments: &[&str]) -> Ran {
        self.command_with(arguments, &[]).await
    }

    /// The same with settings over the world's own.
    pub async fn command_with(&self, arguments: &[&str], settings: &[(&str, &str)]) -> Ran {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_uploader-v4"));
        command
            .args(arguments)
            .envs(self.environment())
            .envs(settings.iter().copied())
            .kill_on_drop(true)
            .stdin(std::process::Stdio::null());
        let ran = tokio::time::timeout(LATE, command.output()).await;
        let ran = ran.unwrap_or_else(|_| panic!("{arguments:?} did not end")).unwrap();
        Ran {
            code: ran.status.code().unwrap_or(-1),
            stdout: String::from_utf8(ran.stdout).unwrap(),
            stderr: String::from_utf8(ran.stderr).unwrap(),
        }
    }

    pub async fn client(&self) -> Arc<Client> {
        Client::connect(&self.sandbox.amqp_url).await
    }

    /// Announces a video with one file per entry.
    pub async fn announce(&self, totals: &[i64]) -> Vec<Upload> {
        let video = Uuid::new_v4();
        let insert = "INSERT INTO videos (id, title, description, created_at) VALUES ($1, 't', 'd', now())";
        self.execute(insert, vec![video.into()]).await;
        let mut uploads = Vec::new();
        for total in totals {
            let (flow, session) = (Uuid::new_v4(), Uuid::new_v4());
            let insert = "INSERT INTO flows (id, created_at, video_id) VALUES ($1, now(), $2)";
            self.execute(insert, vec![flow.into(), video.into()]).await;
            let insert = "INSERT INTO upload_sessions (id, total_bytes, flow_id) VALUES ($1, $2, $3)";
            self.execute(insert, vec![session.into(), (*total).into(), flow.into()]).await;
            uploads.push(Upload { video, flow, session });
        }
        uploads
    }

    pub async fn announce_one(&self, total: usize) -> Upload {
        self.announce(&[total as i64]).await[0]
    }

    pub async fn execute(&self, sql: &str, values: Vec<Value>) -> u64 {
        let statement = Statement::from_sql_and_values(DbBackend::Postgres, sql, values);
        self.db.execute_raw(statement).await.unwrap().rows_affected()
    }

    pub async fn query(&self, sql: &str, values: Vec<Value>) -> Vec<QueryResult> {
        let statement = Statement::from_sql_and_values(DbBackend::Postgres, sql, values);
        self.db.query_all_raw(statement).await.unwrap()
    }

    /// One text column of one row; `None` without a row or with NULL.
    pub async fn text(&self, sql: &str, id: Uuid) -> Option<String> {
        let rows = self.query(sql, vec![id.into()]).await;
        rows.first().and_then(|row| row.try_get_by_index::<Option<String>>(0).unwrap())
    }

    pub async fn video_status(&self, upload: &Upload) -> Option<String> {
        self.text("SELECT status FROM videos WHERE id = $1", upload.video).await
    }

    pub async fn flow_status(&self, upload: &Upload) -> Option<String> {
        self.text("SELECT status FROM flows WHERE id = $1", upload.flow).await
    }

    pub async fn state(&self, upload: &Upload) -> Option<String> {
        self.text("SELECT state FROM uploader.session WHERE session_id = $1", upload.session).await
    }

    pub async fn committed(&self, upload: &Upload) -> i64 {
        let sql = "SELECT uploaded_bytes::text FROM upload_sessions WHERE id = $1";
        self.text(sql, upload.session).await.map_or(-1, |text| text.parse().unwrap())
    }

    /// The name of the replica that feeds a session, once there is one.
    pub async fn owner(&self, upload: &Upload) -> String {
        let sql = "SELECT r.name FROM uploader.session s JOIN uploader.replica r ON r.replica_id = s.owner \
                   WHERE s.session_id = $1";
        self.wait("an owner", SOON, async || self.text(sql, upload.session).await.is_some()).await;
        self.text(sql, upload.session).await.unwrap()
    }

    /// Runs a statement on a connection of its own and keeps its locks until the transaction ends.
    pub async fn hold(&self, sql: &str, id: Uuid) -> DatabaseTransaction {
        let transaction = self.db.begin().await.unwrap();
        let statement = Statement::from_sql_and_values(DbBackend::Postgres, sql, [id.into()]);
        assert_eq!(transaction.execute_raw(statement).await.unwrap().rows_affected(), 1, "{sql}");
        transaction
    }

    /// Waits until somebody in this database waits for a lock.
    pub async fn waits_for_a_lock(&self) {
        let waiting = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
        self.wait("somebody to wait for a lock", SOON, async || {
            !self.query(waiting, Vec::new()).await.is_empty()
        })
        .await;
    }

    /// Waits until the video plays.
    pub async fn distributed(&self, upload: &Upload) {
        let what = format!("video {} to be DISTRIBUTED", upload.video);
        self.wait(&what, LATE, async || self.video_status(upload).await.as_deref() == Some("DISTRIBUTED"))
            .await;
    }

    /// Waits for a condition; at the deadline the test fails with the replicas' logs named.
    pub async fn wait(&self, what: &str, deadline: Duration, check: impl AsyncFnMut() -> bool) {
        if let Err(error) = devstack::wait_until(what, deadline, check).await {
            panic!("{error:#}; logs are in {}", self.workspace.path().display());
        }
    }

    /// Nothing of an ended session is left: rows, route, spool.
    pub async fn nothing_left(&self, upload: &Upload) {
        self.wait("everything of the session to be gone", SOON, async || {
            let cleaned =
                "SELECT 'yes' FROM uploader.session WHERE session_id = $1 AND cleaned_at IS NOT NULL";
            let runs = "SELECT count(*)::text FROM uploader.run WHERE session_id = $1";
            self.text(cleaned, upload.session).await.is_some()
                && self.text(runs, upload.session).await.as_deref() == Some("0")
                && !self.spool.join(upload.session.to_string()).exists()
                && self.route(upload.session).await.is_none()
        })
        .await;
    }

    /// What Redis says about a session.
    pub async fn route(&self, session: Uuid) -> Option<String> {
        let (host, port) = (&self.sandbox.redis_host, self.sandbox.redis_port);
        let mut get = redis::cmd("GET");
        get.arg(session.to_string());
        devstack::servers::redis::command(host, port, self.sandbox.redis_db, &get).await.unwrap()
    }
}

impl Replica {
    pub async fn ready(&self) {
        let url = format!("http://127.0.0.1:{}/readyz", self.port);
        let ready =
            devstack::wait_until("the replica to be ready", SOON, async || self.readyz().await.0 == 200)
                .await;
        if let Err(error) = ready {
            panic!("{error:#} ({url}): {:?}\n{}", self.readyz().await, self.process.log_tail(30));
        }
    }

    /// Status and body of `/readyz`; status 0 while nobody listens.
    pub async fn readyz(&self) -> (u16, String) {
        let url = format!("http://127.0.0.1:{}/readyz", self.port);
        match devstack::http::get(&url, Duration::from_secs(5)).await {
            Ok(answer) => (answer.status, String::from_utf8_lossy(&answer.body).into_owned()),
            Err(_) => (0, String::new()),
        }
    }
}

async fn template(endpoints: &Endpoints, columns: ByteColumns) -> &'static str {
    let name = match columns {
        ByteColumns::Integer => "it_integer",
        ByteColumns::BigInt => "it_bigint",
    };
    let fill = async |url: String| {
        let db = Database::connect(url).await?;
        migration::shared_tables(&db, columns).await?;
        Ok(db.close().await?)
    };
    endpoints.ensure_template(name, fill).await.unwrap();
    name
}

/// Bytes that look like nothing, the same for the same seed.
pub fn bytes(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    })
    .take(length)
    .collect()
}

pub fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest;
    sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
