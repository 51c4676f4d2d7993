//! Where the servers of a test run are: started once, told to every test through the environment.

use anyhow::Context;

use crate::database;
use crate::servers::rabbitmq::management::Management;

const POSTGRES_URL: &str = "DEVSTACK_POSTGRES_URL";
const REDIS_HOST: &str = "DEVSTACK_REDIS_HOST";
const REDIS_PORT: &str = "DEVSTACK_REDIS_PORT";
const AMQP_URL: &str = "DEVSTACK_AMQP_URL";
const AMQP_MANAGEMENT_URL: &str = "DEVSTACK_AMQP_MANAGEMENT_URL";

/// The addresses of one set of servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoints {
    /// The maintenance database, as superuser: `postgresql://postgres@127.0.0.1:<port>/postgres`.
    pub postgres_url: String,
    /// The host of Redis.
    pub redis_host: String,
    /// The port of Redis.
    pub redis_port: u16,
    /// The broker without a vhost: `amqp://guest:guest@127.0.0.1:<port>`.
    pub amqp_url: String,
    /// The broker's management API with credentials.
    pub amqp_management_url: String,
}

impl Endpoints {
    /// Reads the addresses from the environment that `devstack exec` makes.
    ///
    /// # Errors
    /// When a variable is missing; the text says how to run the tests.
    pub fn from_env() -> anyhow::Result<Self> {
        Self::from_lookup(|name| std::env::var(name).ok())
    }

    fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> anyhow::Result<Self> {
        let get = |name: &str| {
            lookup(name).with_context(|| {
                format!("{name} is not set: run this through `cargo run -p devstack -- exec -- COMMAND`")
            })
        };
        Ok(Self {
            postgres_url: get(POSTGRES_URL)?,
            redis_host: get(REDIS_HOST)?,
            redis_port: get(REDIS_PORT)?.parse().with_context(|| format!("{REDIS_PORT} is no port"))?,
            amqp_url: get(AMQP_URL)?,
            amqp_management_url: get(AMQP_MANAGEMENT_URL)?,
        })
    }

    /// The environment variables that `from_env` reads.
    #[must_use]
    pub fn to_env(&self) -> Vec<(&'static str, String)> {
        vec![
            (POSTGRES_URL, self.postgres_url.clone()),
            (REDIS_HOST, self.redis_host.clone()),
            (REDIS_PORT, self.redis_port.to_string()),
            (AMQP_URL, self.amqp_url.clone()),
            (AMQP_MANAGEMENT_URL, self.amqp_management_url.clone()),
        ]
    }

    /// Makes a template database once per set of servers: the first caller, over all threads and processes,
    /// fills it by `fill`, which gets its URL and must have closed its connections when it returns.
    ///
    /// # Errors
    /// When `fill` fails (nothing is left behind then) or PostgreSQL refuses.
    pub async fn ensure_template<F>(&self, name: &str, fill: F) -> anyhow::Result<()>
    where
        F: AsyncFnOnce(String) -> anyhow::Result<()>,
    {
        database::ensure(&self.postgres_url, name, fill).await
    }

    /// The URL of another database on the same server.
    ///
    /// # Errors
    /// When `postgres_url` is no URL.
    pub fn database_url(&self, name: &str) -> anyhow::Result<String> {
        database::url_of(&self.postgres_url, name)
    }

    /// The broker's management API.
    #[must_use]
    pub fn management(&self) -> Management {
        Management::new(self.amqp_management_url.clone())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn what_goes_into_the_environment_comes_out_again() {
        let endpoints = Endpoints {
            postgres_url: "postgresql://postgres@127.0.0.1:1/postgres".to_owned(),
            redis_host: "127.0.0.1".to_owned(),
            redis_port: 2,
            amqp_url: "amqp://guest:guest@127.0.0.1:3".to_owned(),
            amqp_management_url: "http://guest:guest@127.0.0.1:4".to_owned(),
        };
        let env: std::collections::BTreeMap<_, _> = endpoints.to_env().into_iter().collect();
        assert_eq!(Endpoints::from_lookup(|name| env.get(name).cloned()).unwrap(), endpoints);
    }

    #[test]
    fn a_missing_variable_is_named_with_the_way_to_get_it() {
        let error = Endpoints::from_lookup(|_| None).unwrap_err().to_string();
        assert!(error.contains(POSTGRES_URL) && error.contains("exec --"), "{error}");
    }
}
