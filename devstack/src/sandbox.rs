//! One test's own world on shared servers: a database, a vhost and a Redis database that nobody else uses.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, bail};

use crate::database;
use crate::endpoints::Endpoints;
use crate::servers::rabbitmq::management::QueueDepth;
use crate::servers::redis::{DATABASES, command};

/// How long the removal in `Drop` may hold up a test.
const REMOVAL: Duration = Duration::from_secs(10);

static SANDBOXES: AtomicU32 = AtomicU32::new(0);

/// A fresh database, vhost and Redis database; removed by `remove`, and as far as possible when dropped.
#[derive(Debug)]
pub struct Sandbox {
    /// `postgresql://postgres@127.0.0.1:<port>/<database_name>`.
    pub database_url: String,
    /// Unique to this sandbox.
    pub database_name: String,
    /// `amqp://guest:guest@127.0.0.1:<port>/<vhost>`.
    pub amqp_url: String,
    /// Unique to this sandbox.
    pub vhost: String,
    /// The host of Redis.
    pub redis_host: String,
    /// The port of Redis.
    pub redis_port: u16,
    /// The number of a database that was empty at the start.
    pub redis_db: u32,
    endpoints: Endpoints,
    removed: bool,
}

impl Sandbox {
    /// Makes one, with a copy of the database `template_db` when given.
    ///
    /// # Errors
    /// When a server refuses or cannot be reached; what was made is removed again.
    pub async fn create(endpoints: &Endpoints, template_db: Option<&str>) -> anyhow::Result<Self> {
        let name = unique_name();
        let sandbox = Self {
            database_url: endpoints.database_url(&name)?,
            database_name: name.clone(),
            amqp_url: format!("{}/{name}", endpoints.amqp_url),
            vhost: name.clone(),
            redis_host: endpoints.redis_host.clone(),
            redis_port: endpoints.redis_port,
            redis_db: claim_redis_database(endpoints, &name).await?,
            endpoints: endpoints.clone(),
            removed: false,
        };
        database::create(&endpoints.postgres_url, &name, template_db).await?;
        endpoints.management().create_vhost(&name).await?;
        Ok(sandbox)
    }

    /// The servers that this is on.
    #[must_use]
    pub fn endpoints(&self) -> &Endpoints {
        &self.endpoints
    }

    /// `redis://<host>:<port>/<redis_db>`.
    #[must_use]
    pub fn redis_url(&self) -> String {
        format!("redis://{}:{}/{}", self.redis_host, self.redis_port, self.redis_db)
    }

    /// The messages in a queue of the vhost, as of at most half a second ago; `None` without such a queue.
    ///
    /// # Errors
    /// When the management API does not answer.
    pub async fn queue_depth(&self, queue: &str) -> anyhow::Result<Option<QueueDepth>> {
        self.endpoints.management().queue_depth(&self.vhost, queue).await
    }

    /// Closes every AMQP connection to the vhost, as an operator would, and says how many they were.
    ///
    /// # Errors
    /// When the management API does not answer.
    pub async fn close_amqp_connections(&self) -> anyhow::Result<usize> {
        self.endpoints.management().close_connections(&self.vhost).await
    }

    /// Empties the Redis database.
    ///
    /// # Errors
    /// When Redis cannot be reached.
    pub async fn flush_redis(&self) -> anyhow::Result<()> {
        command(&self.redis_host, self.redis_port, self.redis_db, &redis::cmd("FLUSHDB")).await
    }

    /// Removes everything, whoever is still connected.
    ///
    /// # Errors
    /// When a server cannot be reached; the rest is removed all the same.
    pub async fn remove(mut self) -> anyhow::Result<()> {
        self.removed = true;
        remove(&self.endpoints, &self.database_name, self.redis_db).await
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        if self.removed {
            return;
        }
        let (endpoints, name, redis_db) = (self.endpoints.clone(), self.database_name.clone(), self.redis_db);
        // A runtime of its own: this may run inside one that is busy, or ends.
        let removal = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            if let Ok(runtime) = runtime {
                let removal =
                    async { tokio::time::timeout(REMOVAL, remove(&endpoints, &name, redis_db)).await };
                // The servers may be gone already, and what stays behind goes with them.
                let _ = runtime.block_on(removal);
            }
        });
        let _ = removal.join();
    }
}

async fn remove(endpoints: &Endpoints, name: &str, redis_db: u32) -> anyhow::Result<()> {
    let management = endpoints.management();
    let vhost = management.delete_vhost(name).await;
    let database = database::remove(&endpoints.postgres_url, name).await;
    let redis = release_redis_database(endpoints, redis_db).await;
    vhost.and(database).and(redis)
}

fn unique_name() -> String {
    let number = SANDBOXES.fetch_add(1, Ordering::Relaxed);
    format!("t_{}_{number}_{:06x}", std::process::id(), fastrand::u32(0..0x0100_0000))
}

/// Database 0 holds who has which of the others.
async fn claim_redis_database(endpoints: &Endpoints, name: &str) -> anyhow::Result<u32> {
    let (host, port) = (&endpoints.redis_host, endpoints.redis_port);
    for _ in 0..DATABASES {
        let number = fastrand::u32(1..DATABASES);
        let mut claim = redis::cmd("SET");
        claim.arg(claim_key(number)).arg(name).arg("NX");
        if command::<Option<String>>(host, port, 0, &claim).await?.is_some() {
            command::<()>(host, port, number, &redis::cmd("FLUSHDB")).await?;
            return Ok(number);
        }
    }
    bail!("no free database in Redis on port {port}")
}

async fn release_redis_database(endpoints: &Endpoints, number: u32) -> anyhow::Result<()> {
    let (host, port) = (&endpoints.redis_host, endpoints.redis_port);
    command::<()>(host, port, number, &redis::cmd("FLUSHDB")).await?;
    let mut release = redis::cmd("DEL");
    release.arg(claim_key(number));
    command::<()>(host, port, 0, &release).await.context("cannot release a database in Redis")
}

fn claim_key(number: u32) -> String {
    format!("devstack:database:{number}")
}
