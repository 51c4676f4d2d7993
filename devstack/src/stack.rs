//! The three servers of a test run, started together.

use crate::endpoints::Endpoints;
use crate::servers::postgres::Postgres;
use crate::servers::rabbitmq::RabbitMq;
use crate::servers::redis::Redis;
use crate::workspace::Workspace;

/// PostgreSQL, Redis and RabbitMQ; stopped when dropped.
#[derive(Debug)]
pub struct Stack {
    /// The database.
    pub postgres: Postgres,
    /// The cache.
    pub redis: Redis,
    /// The broker.
    pub rabbitmq: RabbitMq,
}

impl Stack {
    /// Starts all three at once.
    ///
    /// # Errors
    /// When one of them is not installed or does not come up; the others are stopped then.
    pub async fn start(workspace: &Workspace) -> anyhow::Result<Self> {
        Self::around(workspace, Postgres::start(workspace)).await
    }

    /// Like `start`, with a PostgreSQL that syncs to the disk, as in production.
    ///
    /// # Errors
    /// As `start`.
    pub async fn start_durable(workspace: &Workspace) -> anyhow::Result<Self> {
        Self::around(workspace, Postgres::start_durable(workspace)).await
    }

    async fn around(
        workspace: &Workspace,
        postgres: impl Future<Output = anyhow::Result<Postgres>>,
    ) -> anyhow::Result<Self> {
        let (postgres, redis, rabbitmq) =
            tokio::try_join!(postgres, Redis::start(workspace), RabbitMq::start(workspace))?;
        Ok(Self { postgres, redis, rabbitmq })
    }

    /// Where they are.
    #[must_use]
    pub fn endpoints(&self) -> Endpoints {
        Endpoints {
            postgres_url: self.postgres.url("postgres"),
            redis_host: self.redis.host().to_owned(),
            redis_port: self.redis.port(),
            amqp_url: self.rabbitmq.amqp_url("").trim_end_matches('/').to_owned(),
            amqp_management_url: self.rabbitmq.management_url(),
        }
    }
}
