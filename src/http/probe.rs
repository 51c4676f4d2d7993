//! One GET to an address, to see whether anybody answers there.

use std::time::Duration;

/// Bytes of an answer that are read at most.
const BODY_LIMIT: usize = 64 * 1024;

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probed {
    /// The answer's status.
    pub status: u16,
    /// Its body, as far as it is text.
    pub body: String,
}

/// Asks, follows no redirect, and waits no longer than `within`.
///
/// # Errors
/// Why there was no answer, for people.
pub async fn probe(url: &str, within: Duration) -> Result<Probed, String> {
    let client = awc::Client::builder().timeout(within).disable_redirects().finish();
    let ask = async {
        let mut answer = client.get(url).send().await.map_err(|error| error.to_string())?;
        let body = answer.body().limit(BODY_LIMIT).await.unwrap_or_default();
        Ok(Probed { status: answer.status().as_u16(), body: String::from_utf8_lossy(&body).into_owned() })
    };
    tokio::time::timeout(within, ask).await.unwrap_or_else(|_| Err(format!("no answer within {within:?}")))
}
