//! Asks a running replica how it is, as `/livez` and `/readyz` answer.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use awc::Client;
use serde_json::Value;
use tokio::time::timeout;

/// Bytes read of an answer.
const BODY_LIMIT: usize = 64 << 10;
/// Characters quoted of an answer that is no board.
const QUOTE: usize = 200;

/// What to ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    /// Whether the process should be left running.
    Live,
    /// Whether it can take chunks.
    Ready,
}

impl Question {
    /// The path that answers it.
    pub fn path(self) -> &'static str {
        match self {
            Question::Live => "/livez",
            Question::Ready => "/readyz",
        }
    }
}

/// What a replica said of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// HTTP status; 200 is yes.
    pub status: u16,
    /// Why it is not, or not quite, well: `amqp: connection refused`.
    pub reasons: Vec<String>,
}

/// Where a replica that listens on `addr` is asked from the same host: every address means any of them.
pub fn from_this_host(addr: SocketAddr) -> SocketAddr {
    let ip = match addr.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, addr.port())
}

/// Asks the replica at `host`, a name or an address with its port, within `deadline`.
///
/// # Errors
/// Nothing answered in time; says why.
pub async fn ask(host: &str, question: Question, deadline: Duration) -> Result<Said, String> {
    let client = Client::builder().disable_timeout().disable_redirects().finish();
    let exchange = async {
        let request = client.get(format!("http://{host}{}", question.path()));
        let mut answer = request.send().await.map_err(|error| error.to_string())?;
        let body = answer.body().limit(BODY_LIMIT).await.map_err(|error| error.to_string())?;
        let status = answer.status().as_u16();
        Ok(Said { status, reasons: complaints(&body).unwrap_or_else(|| quoted(status, &body)) })
    };
    timeout(deadline, exchange).await.unwrap_or_else(|_| Err(format!("no answer within {deadline:?}")))
}

/// The reasons on the board that `/readyz` answers with; `None` for anything else.
fn complaints(body: &[u8]) -> Option<Vec<String>> {
    let board: Value = serde_json::from_slice(body).ok()?;
    let complaint = |(name, state): (&String, &Value)| Some(format!("{name}: {}", state["reason"].as_str()?));
    Some(board["dependencies"].as_object()?.iter().filter_map(complaint).collect())
}

/// `/livez` answers with its reason alone, and whoever else listens there with anything.
fn quoted(status: u16, body: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(body).split_whitespace().collect::<Vec<_>>().join(" ");
    if status == 200 || text.is_empty() { Vec::new() } else { vec![text.chars().take(QUOTE).collect()] }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::HttpConfig;
    use crate::http::HealthServer;
    use crate::readiness::{Dependency, Readiness, State};

    const SOON: Duration = Duration::from_secs(5);

    async fn ask_of(board: &Readiness, question: Question) -> Said {
        let config = HttpConfig { addr: ([127, 0, 0, 1], 0).into() };
        let server = HealthServer::start(&config, board.clone()).unwrap();
        let said = ask(&server.address().to_string(), question, SOON).await.unwrap();
        server.stop().await;
        said
    }

    #[actix_web::test]
    async fn what_is_down_is_named_and_what_is_degraded_too() {
        let board = Readiness::new();
        Dependency::ALL.into_iter().for_each(|dependency| board.set(dependency, State::Up));
        assert_eq!(ask_of(&board, Question::Ready).await, Said { status: 200, reasons: Vec::new() });
        board.set(Dependency::Redis, State::Down("gone".into()));
        let degraded = vec!["redis: gone".to_owned()];
        assert_eq!(ask_of(&board, Question::Ready).await, Said { status: 200, reasons: degraded });
        board.set(Dependency::Amqp, State::Down("refused".into()));
        let both = vec!["amqp: refused".to_owned(), "redis: gone".to_owned()];
        assert_eq!(ask_of(&board, Question::Ready).await, Said { status: 503, reasons: both });
        assert_eq!(ask_of(&board, Question::Live).await, Said { status: 200, reasons: Vec::new() });
        board.set(Dependency::Lines, State::Down("it keeps dying".into()));
        let dead = vec!["it keeps dying".to_owned()];
        assert_eq!(ask_of(&board, Question::Live).await, Said { status: 503, reasons: dead });
    }

    #[actix_web::test]
    async fn nobody_and_a_silent_one_are_told_within_the_deadline() {
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = silent.local_addr().unwrap().to_string();
        let short = Duration::from_millis(200);
        assert!(ask(&address, Question::Ready, short).await.unwrap_err().contains("no answer within"));
        drop(silent);
        assert!(ask(&address, Question::Ready, SOON).await.unwrap_err().contains("refused"));
    }

    #[test]
    fn a_replica_that_listens_everywhere_is_asked_on_loopback() {
        for (listens, asked) in [
            ("0.0.0.0:80", "127.0.0.1:80"),
            ("[::]:80", "[::1]:80"),
            ("10.0.0.1:80", "10.0.0.1:80"),
            ("[::1]:8080", "[::1]:8080"),
        ] {
            assert_eq!(from_this_host(listens.parse().unwrap()).to_string(), asked);
        }
    }
}
