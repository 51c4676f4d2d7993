//! The real store: redis, connected on first use.
//!
//! A Redis that is away costs one caller its response timeout, then everybody is refused at once until the pause is
//! over and a single call tries again.

use std::future::Future;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{Client, ConnectionAddr, RedisError, TlsCertificates};
use secrecy::ExposeSecret;
use tokio::time::Instant;

use super::{RouteStore, RouteStoreError};
use crate::config::RedisConfig;
use crate::domain::ids::SessionId;
use crate::domain::route::FlowUrl;
use crate::gateways::tls;

/// Between two attempts to reach a Redis that is away.
const PAUSE: Duration = Duration::from_secs(1);
/// No address is longer; what is longer was not written by this service.
const LONGEST_VALUE: isize = 2048;

/// Routes in Redis. Belongs to the runtime that first uses it.
pub struct RedisRoutes {
    client: Client,
    response_timeout: Duration,
    route_ttl: Duration,
    line: Mutex<Line>,
}

/// The connection, when it may be tried again after it failed, and why it did.
#[derive(Default)]
struct Line {
    manager: Option<ConnectionManager>,
    next_try: Option<Instant>,
    /// How it failed.
    reason: String,
}

impl RedisRoutes {
    /// Checks the address; connects to nothing yet.
    ///
    /// # Errors
    /// The address is none that this build can use; the reason carries no credentials.
    pub fn new(config: &RedisConfig) -> Result<Self, RouteStoreError> {
        let client = client(config).map_err(|error| {
            let kind = error.kind();
            RouteStoreError(format!("FFLOW_CACHE_URL is unusable ({kind:?})"))
        })?;
        let (response_timeout, route_ttl) = (config.response_timeout, config.route_ttl);
        Ok(RedisRoutes { client, response_timeout, route_ttl, line: Mutex::default() })
    }

    /// Runs one command on the shared connection, within the response timeout as a whole.
    async fn run<T, F>(&self, command: impl FnOnce(ConnectionManager) -> F) -> Result<T, RouteStoreError>
    where
        F: Future<Output = Result<T, RedisError>>,
    {
        let manager = self.take_line()?;
        let outcome = tokio::time::timeout(self.response_timeout, command(manager)).await;
        match outcome {
            Ok(Ok(value)) => {
                self.line().next_try = None;
                Ok(value)
            }
            // The connection is sound; it is this key that holds something else.
            Ok(Err(error)) if error.code() == Some("WRONGTYPE") => Err(RouteStoreError(error.to_string())),
            Ok(Err(error)) if error.is_timeout() => Err(self.break_line(self.silence())),
            Ok(Err(error)) => Err(self.break_line(error.to_string())),
            Err(_) => Err(self.break_line(self.silence())),
        }
    }

    /// A plain server waits for the end of what it takes for a line, where TLS would end at once elsewhere.
    fn silence(&self) -> String {
        let silence = format!("no answer within {:?}", self.response_timeout);
        match self.client.get_connection_info().addr() {
            ConnectionAddr::TcpTls { .. } => {
                format!("{silence}; if it never answers, it does not speak TLS on this port")
            }
            _ => silence,
        }
    }

    /// The connection, unless it failed a moment ago. After a failure the first caller past the pause tries alone.
    fn take_line(&self) -> Result<ConnectionManager, RouteStoreError> {
        let now = Instant::now();
        let mut line = self.line();
        if let Some(next_try) = line.next_try {
            if now < next_try {
                return Err(RouteStoreError(line.reason.clone()));
            }
            line.next_try = Some(now + PAUSE.max(self.response_timeout));
        }
        if let Some(manager) = &line.manager {
            return Ok(manager.clone());
        }
        let manager = ConnectionManager::new_lazy_with_config(self.client.clone(), self.manager_config())
            .map_err(|error| RouteStoreError(error.to_string()))?;
        line.manager = Some(manager.clone());
        Ok(manager)
    }

    fn manager_config(&self) -> ConnectionManagerConfig {
        ConnectionManagerConfig::new()
            .set_number_of_retries(0)
            .set_connection_timeout(Some(self.response_timeout))
            .set_response_timeout(Some(self.response_timeout))
    }

    /// Drops the connection: the manager would keep one whose first attempt was refused for other reasons than I/O.
    fn break_line(&self, reason: String) -> RouteStoreError {
        let reason = tls::explained(reason);
        let mut line = self.line();
        line.manager = None;
        line.next_try = Some(Instant::now() + PAUSE);
        line.reason.clone_from(&reason);
        RouteStoreError(reason)
    }

    fn line(&self) -> std::sync::MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Opens nothing. `rediss` is checked against the trusted authorities, `redis` is plain.
fn client(config: &RedisConfig) -> Result<Client, RedisError> {
    let url = config.url.expose_secret();
    match tls::bundle(&config.trust).filter(|_| url.starts_with("rediss:")) {
        Some(authorities) => {
            Client::build_with_tls(url, TlsCertificates { client_tls: None, root_cert: Some(authorities) })
        }
        None => Client::open(url),
    }
}

#[async_trait]
impl RouteStore for RedisRoutes {
    async fn get(&self, session: SessionId) -> Result<Option<String>, RouteStoreError> {
        let value: Vec<u8> = self
            .run(|mut redis| async move {
                // One byte more than the longest tells a longer one without fetching it.
                redis::cmd("GETRANGE")
                    .arg(session.to_string())
                    .arg(0)
                    .arg(LONGEST_VALUE)
                    .query_async(&mut redis)
                    .await
            })
            .await?;
        if value.len() > LONGEST_VALUE.unsigned_abs() {
            tracing::warn!(session.id = %session, "the route in redis is no address: longer than {LONGEST_VALUE} bytes");
            return Ok(None);
        }
        Ok(String::from_utf8(value).ok().filter(|text| !text.is_empty()))
    }

    async fn set(&self, session: SessionId, url: &FlowUrl) -> Result<(), RouteStoreError> {
        let ttl = self.route_ttl.as_secs().max(1);
        self.run(|mut redis| async move {
            let mut set = redis::cmd("SET");
            set.arg(session.to_string()).arg(url.as_str()).arg("EX").arg(ttl);
            set.query_async(&mut redis).await
        })
        .await
    }

    async fn remove(&self, session: SessionId) -> Result<(), RouteStoreError> {
        self.run(|mut redis| async move {
            redis::cmd("DEL").arg(session.to_string()).query_async(&mut redis).await
        })
        .await
    }

    async fn ping(&self) -> Result<(), RouteStoreError> {
        self.run(|mut redis| async move { redis::cmd("PING").query_async(&mut redis).await }).await
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn routes(address: &str) -> RedisRoutes {
        let config = RedisConfig {
            url: format!("redis://{address}/0").into(),
            response_timeout: Duration::from_millis(200),
            route_ttl: Duration::from_secs(60),
            trust: Default::default(),
        };
        RedisRoutes::new(&config).unwrap()
    }

    #[tokio::test]
    async fn a_redis_that_is_away_is_asked_once_and_then_refused_at_once() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let routes = routes(&address.to_string());
        assert!(routes.ping().await.is_err());
        let back = std::net::TcpListener::bind(address).unwrap();
        back.set_nonblocking(true).unwrap();
        let refused = routes.ping().await.unwrap_err();
        assert!(refused.0.contains("refused"), "the first reason again: {refused}");
        assert!(back.accept().is_err(), "nobody asked");
    }

    #[tokio::test]
    async fn a_redis_that_never_answers_costs_one_timeout_a_second() {
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let routes = routes(&silent.local_addr().unwrap().to_string());
        let begun = Instant::now();
        for _ in 0..50 {
            assert!(routes.get(SessionId(uuid::Uuid::nil())).await.is_err());
        }
        assert!(begun.elapsed() < Duration::from_millis(900), "{:?}", begun.elapsed());
        assert!(begun.elapsed() >= Duration::from_millis(200));
    }

    #[test]
    fn an_unusable_address_is_named_without_its_password() {
        let config = RedisConfig {
            url: "http://user:hunter2@h/".to_owned().into(),
            response_timeout: Duration::from_millis(200),
            route_ttl: Duration::from_secs(60),
            trust: Default::default(),
        };
        let error = RedisRoutes::new(&config).err().unwrap();
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}
