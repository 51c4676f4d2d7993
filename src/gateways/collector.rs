//! An OpenTelemetry collector: takes finished spans over OTLP/HTTP. It may be away: then spans are lost, nothing else.
//!
//! Spans are gathered and encoded on a thread of their own; requests are made here, on the runtime of all others.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use awc::{Client, Connector};
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use tokio::sync::{mpsc, oneshot};

use super::tls;
use crate::config::TracesConfig;

/// Deadline of one request.
const TIMEOUT: Duration = Duration::from_secs(5);
/// What is read of an answer: whether it is good is in its status.
const MOST_BYTES: usize = 64 * 1024;
/// Pause between two complaints.
const COMPLAIN_EVERY: Duration = Duration::from_secs(60);

struct Errand {
    request: Request<Bytes>,
    answer: oneshot::Sender<Result<Response<Bytes>, String>>,
}

/// Hands requests to the runtime that opened it.
#[derive(Debug, Clone)]
pub struct Collector {
    errands: mpsc::Sender<Errand>,
}

impl Collector {
    /// Makes ready to send; opens no connection yet. It ends with the runtime that it is called on.
    pub fn open(config: &TracesConfig) -> Self {
        let (errands, received) = mpsc::channel(4);
        let connector = Connector::new().timeout(TIMEOUT);
        let connector = match tls::client(&config.trust) {
            Ok(trusted) => connector.rustls_0_23(trusted),
            // It then refuses https.
            Err(_) => connector,
        };
        let client = Client::builder().connector(connector).timeout(TIMEOUT).disable_redirects().finish();
        actix_rt::spawn(serve(client, received));
        Collector { errands }
    }
}

#[async_trait]
impl HttpClient for Collector {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (answer, answered) = oneshot::channel();
        let gone = "the service is leaving";
        self.errands.send(Errand { request, answer }).await.map_err(|_| gone)?;
        Ok(answered.await.map_err(|_| gone)??)
    }
}

async fn serve(client: Client, mut received: mpsc::Receiver<Errand>) {
    let mut complained: Option<Instant> = None;
    while let Some(Errand { request, answer }) = received.recv().await {
        let result = send(&client, request).await;
        if let Err(error) = &result
            && complained.is_none_or(|at| at.elapsed() >= COMPLAIN_EVERY)
        {
            complained = Some(Instant::now());
            tracing::warn!(error, "the collector takes no spans, they are lost");
        }
        // The exporter's own deadline may have passed.
        let _ = answer.send(result);
    }
}

async fn send(client: &Client, request: Request<Bytes>) -> Result<Response<Bytes>, String> {
    let (parts, body) = request.into_parts();
    let mut post = client.post(parts.uri.to_string());
    for (name, value) in &parts.headers {
        post = post.insert_header((name.as_str(), value.as_bytes()));
    }
    let mut response = post.send_body(body).await.map_err(|error| tls::explained(error.to_string()))?;
    let status = response.status();
    let body = response.body().limit(MOST_BYTES).await.map_err(|error| error.to_string())?;
    if !status.is_success() {
        return Err(format!("it answers {status}"));
    }
    Response::builder().status(status.as_u16()).body(body).map_err(|error| error.to_string())
}
