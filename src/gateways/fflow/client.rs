//! The real client: awc, one per arbiter.
//!
//! A push reuses a kept connection, but only one that was idle for less than any known peer keeps it (node: 5 s), since
//! a connection that the peer closed meanwhile leaves it open whether the push was applied. Create, finish and delete
//! are rare and open a connection each.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use awc::body::{BodySize, MessageBody};
use awc::error::{ConnectError, SendRequestError};
use awc::http::header::CONTENT_TYPE;
use awc::{Client, ClientRequest, Connector};
use bytes::Bytes;
use tokio::time::{Instant, timeout_at};

use super::answer::{self, Body};
use super::{Fflow, FflowError};
use crate::config::FflowConfig;
use crate::domain::ids::FlowName;
use crate::domain::route::FlowUrl;
use crate::gateways::tls;
use crate::trace;

/// A connection that has not opened by then is given up; nothing was sent on it.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// For a request that starts nothing.
const KNOCK_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an idle connection may be used again.
const KEPT: Duration = Duration::from_secs(2);
/// Finishes, creates and deletes under way at once, beyond one per feed.
const SPARE_CONNECTIONS: usize = 64;
/// A status is the answer; its body is waited for no longer than this.
const BODY_WAIT: Duration = Duration::from_secs(5);

/// Speaks to fflow with awc. Not `Send`: it is made inside the arbiter that uses it.
pub struct AwcFflow {
    kept: Client,
    fresh: Client,
    base: String,
    config: FflowConfig,
}

impl AwcFflow {
    /// A client with room for `max_feeds` requests at once. Opens no connection yet.
    pub fn new(config: FflowConfig, max_feeds: usize) -> Self {
        let limit = max_feeds.saturating_add(SPARE_CONNECTIONS);
        let base = config.base_url.as_str().trim_end_matches('/').to_owned();
        AwcFflow {
            kept: client(&config, limit, KEPT),
            fresh: client(&config, limit, Duration::ZERO),
            base,
            config,
        }
    }

    /// Sends one request, all within `limit`; the body of a 2xx, as much of it as was read.
    async fn ask(&self, request: ClientRequest, body: Bytes, limit: Duration) -> Result<Body, FflowError> {
        let end = Instant::now() + limit;
        let request = match trace::of(&tracing::Span::current()) {
            Some(context) => request.insert_header(("traceparent", context.to_string())),
            None => request,
        };
        let sent = timeout_at(end, request.send_body(Sliced(body))).await;
        let mut response = match sent {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return Err(classify(&error)),
            Err(_) => return Err(FflowError::Unknown(format!("none within {limit:?}"))),
        };
        let status = response.status().as_u16();
        let end = end.min(Instant::now() + BODY_WAIT);
        let body = answer::read(&mut response, self.body_limit(), end).await;
        if response.status().is_success() {
            return Ok(body);
        }
        Err(FflowError::Status { status, message: answer::message(&body.bytes) })
    }

    /// Whether anything answers at the configured address: the status of a GET, which changes nothing there.
    ///
    /// # Errors
    /// Nothing answered in time.
    pub async fn knock(&self) -> Result<u16, FflowError> {
        let request = self.fresh.get(format!("{}/", self.base));
        match self.ask(request, Bytes::new(), self.config.create_timeout.min(KNOCK_TIMEOUT)).await {
            Ok(_) => Ok(200),
            Err(FflowError::Status { status, .. }) => Ok(status),
            Err(error) => Err(error),
        }
    }

    fn body_limit(&self) -> usize {
        usize::try_from(self.config.body_limit).unwrap_or(usize::MAX)
    }
}

#[async_trait(?Send)]
impl Fflow for AwcFflow {
    async fn create(&self, name: &FlowName) -> Result<String, FflowError> {
        let request = self.fresh.post(format!("{}/{name}", self.base));
        let body = self.ask(request, Bytes::new(), self.config.create_timeout).await?;
        answer::flow_url(&body).map_err(FflowError::Unknown)
    }

    async fn push(&self, flow: &FlowUrl, block: Bytes) -> Result<(), FflowError> {
        let request =
            self.kept.post(flow.call("push")).insert_header((CONTENT_TYPE, "application/octet-stream"));
        self.ask(request, block, self.config.push_timeout).await.map(drop)
    }

    async fn finish(&self, flow: &FlowUrl, saving_path: &str) -> Result<(), FflowError> {
        let body = serde_json::json!({ "savingPath": saving_path }).to_string();
        let request = self.fresh.post(flow.call("finish")).insert_header((CONTENT_TYPE, "application/json"));
        self.ask(request, body.into(), self.config.finish_timeout).await.map(drop)
    }

    async fn delete(&self, flow: &FlowUrl) -> Result<(), FflowError> {
        let request = self.fresh.delete(flow.call("delete"));
        self.ask(request, Bytes::new(), self.config.delete_timeout).await.map(drop)
    }
}

/// A body that is handed to the connection a slice at a time, so that it is not copied as a whole into its buffer.
struct Sliced(Bytes);

impl Sliced {
    const SLICE: usize = 64 * 1024;
}

impl MessageBody for Sliced {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        BodySize::Sized(self.0.len() as u64)
    }

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, Infallible>>> {
        let rest = &mut self.get_mut().0;
        let slice = rest.split_to(rest.len().min(Self::SLICE));
        Poll::Ready(Some(slice).filter(|slice| !slice.is_empty()).map(Ok))
    }
}

/// Deadlines are kept outside, over the wait for the pool, the request and the body together.
fn client(config: &FflowConfig, limit: usize, kept: Duration) -> Client {
    let connector = Connector::new().limit(limit).timeout(CONNECT_TIMEOUT).conn_keep_alive(kept);
    let connector = match tls::client(&config.trust) {
        Ok(trusted) => connector.rustls_0_23(trusted),
        // It then refuses https.
        Err(_) => connector,
    };
    Client::builder().connector(connector).disable_timeout().disable_redirects().finish()
}

/// Only what fails before a connection stands was surely not sent.
fn classify(error: &SendRequestError) -> FflowError {
    match error {
        SendRequestError::Connect(ConnectError::Disconnected) => {
            FflowError::Unknown("the connection was closed without one".to_owned())
        }
        SendRequestError::Connect(ConnectError::H2(_)) => FflowError::Unknown(error.to_string()),
        SendRequestError::Url(_) | SendRequestError::Connect(_) => {
            FflowError::NotSent(tls::explained(error.to_string()))
        }
        SendRequestError::Send(reason) => FflowError::Unknown(format!("sending failed: {reason}")),
        SendRequestError::Response(reason) => FflowError::Unknown(format!("unreadable: {reason}")),
        _ => FflowError::Unknown(error.to_string()),
    }
}
