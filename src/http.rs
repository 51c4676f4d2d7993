//! Health and metrics over HTTP: `/livez`, `/readyz` and `/metrics`.
//!
//! `/livez` answers 200 unless the actors of this process have died for good; `/readyz` answers 200 when chunks can be
//! taken and 503 with the reasons when not, with the state of each dependency in either case.

pub mod probe;

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use actix_web::dev::ServerHandle;
use actix_web::http::header::{CACHE_CONTROL, ContentType, HeaderValue};
use actix_web::middleware::DefaultHeaders;
use actix_web::{App, HttpResponse, HttpServer, web};

use crate::config::HttpConfig;
use crate::metrics;
use crate::readiness::{Dependency, Readiness, State, Status};

/// Connections served at once; probes are few.
const MAX_CONNECTIONS: usize = 64;

/// A client that has not sent its request by then is cut off.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// An idle connection lives this long.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// The running server. Dropping it leaves it running.
pub struct HealthServer {
    address: SocketAddr,
    handle: ServerHandle,
}

impl HealthServer {
    /// Listens and begins to answer, on a thread of its own.
    ///
    /// # Errors
    /// Those of the operating system when the address is taken or not of this host.
    pub fn start(config: &HttpConfig, readiness: Readiness) -> io::Result<Self> {
        let board = web::Data::new(readiness);
        let server = HttpServer::new(move || {
            App::new()
                .app_data(board.clone())
                .wrap(DefaultHeaders::new().add((CACHE_CONTROL, HeaderValue::from_static("no-store"))))
                .route("/livez", web::get().to(livez))
                .route("/readyz", web::get().to(readyz))
                .route("/metrics", web::get().to(exposition))
        })
        .workers(1)
        .max_connections(MAX_CONNECTIONS)
        .client_request_timeout(REQUEST_TIMEOUT)
        .keep_alive(KEEP_ALIVE)
        .shutdown_timeout(1)
        .disable_signals()
        .bind(config.addr)?;
        let address = server.addrs().first().copied().unwrap_or(config.addr);
        let server = server.run();
        let handle = server.handle();
        actix_web::rt::spawn(server);
        Ok(Self { address, handle })
    }

    /// The address that it listens on; tells the port when the setting leaves it open.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops listening and ends within about a second.
    pub async fn stop(&self) {
        self.handle.stop(true).await;
    }
}

async fn livez(board: web::Data<Readiness>) -> HttpResponse {
    match board.get(Dependency::Lines) {
        State::Down(reason) if reason != Readiness::STARTING => {
            HttpResponse::ServiceUnavailable().content_type(ContentType::plaintext()).body(reason)
        }
        State::Up | State::Degraded(_) | State::Down(_) => {
            HttpResponse::Ok().content_type(ContentType::plaintext()).body("alive")
        }
    }
}

async fn readyz(board: web::Data<Readiness>) -> HttpResponse {
    let snapshot = board.snapshot();
    match snapshot.status {
        Status::Ready | Status::Degraded => HttpResponse::Ok().json(snapshot),
        Status::NotReady => HttpResponse::ServiceUnavailable().json(snapshot),
    }
}

/// What [`metrics::render`] gives, in the form that Prometheus asks for.
async fn exposition() -> HttpResponse {
    match metrics::render() {
        Some(text) => HttpResponse::Ok().content_type("text/plain; version=0.0.4; charset=utf-8").body(text),
        None => HttpResponse::ServiceUnavailable().body("no metrics are recorded"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    async fn ask(server: &HealthServer, path: &str) -> (u16, String) {
        let url = format!("http://{}{path}", server.address());
        let mut answer = awc::Client::default().get(url).send().await.expect("an answer");
        let body = answer.body().await.unwrap();
        (answer.status().as_u16(), String::from_utf8(body.to_vec()).unwrap())
    }

    fn start(board: &Readiness) -> HealthServer {
        HealthServer::start(&HttpConfig { addr: ([127, 0, 0, 1], 0).into() }, board.clone()).unwrap()
    }

    #[actix_web::test]
    async fn a_starting_service_lives_but_is_not_ready_and_says_why() {
        let board = Readiness::new();
        let server = start(&board);
        assert_eq!(ask(&server, "/livez").await.0, 200);
        let (status, body) = ask(&server, "/readyz").await;
        assert_eq!(status, 503);
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(body["status"], "not ready");
        assert_eq!(body["dependencies"]["shared_tables"]["state"], "down");
        assert_eq!(body["dependencies"]["shared_tables"]["reason"], "starting");
        assert_eq!(body["dependencies"].as_object().unwrap().len(), Dependency::ALL.len());
        server.stop().await;
    }

    #[actix_web::test]
    async fn without_redis_the_service_is_ready_and_degraded() {
        let board = Readiness::new();
        Dependency::ALL.into_iter().for_each(|dependency| board.set(dependency, State::Up));
        board.set(Dependency::Redis, State::Down("connection refused".into()));
        let server = start(&board);
        let (status, body) = ask(&server, "/readyz").await;
        assert_eq!(status, 200);
        assert!(body.contains("\"status\":\"degraded\"") && body.contains("connection refused"), "{body}");
        server.stop().await;
    }

    #[actix_web::test]
    async fn dead_lines_end_the_life_and_other_paths_are_unknown() {
        let board = Readiness::new();
        board.set(Dependency::Lines, State::Down("the session registry keeps dying".into()));
        let server = start(&board);
        assert_eq!(ask(&server, "/livez").await, (503, "the session registry keeps dying".into()));
        assert_eq!(ask(&server, "/").await.0, 404);
        server.stop().await;
    }

    #[actix_web::test]
    async fn a_taken_address_is_an_error() {
        let server = start(&Readiness::new());
        assert!(HealthServer::start(&HttpConfig { addr: server.address() }, Readiness::new()).is_err());
        server.stop().await;
    }
}
