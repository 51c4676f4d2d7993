//! An fflow that takes bytes at once: no ffmpeg, no files, only a count and a digest of each upload.
//!
//! It speaks what the service speaks to fflow, and under `/bench` tells what it got. A generation replaces the one
//! before: what is told of a session is what its newest process was fed.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::process::ExitCode;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use actix_web::http::Method;
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use anyhow::Context;
use futures_util::StreamExt;
use tokio::sync::watch;
use xxhash_rust::xxh3::Xxh3;

/// How the sink is told where it listens.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Address and port
    #[arg(long)]
    listen: String,
}

/// One upload's newest process.
struct Flow {
    name: String,
    bytes: u64,
    hasher: Xxh3,
    /// Bytes after each push and when it came, of sessions that are watched.
    arrivals: Vec<(u64, Duration)>,
}

#[derive(Default)]
struct Book {
    flows: HashMap<String, Flow>,
    total: u64,
    /// Whether the arrival of each push is noted.
    noting: bool,
}

struct Sink {
    address: String,
    book: Mutex<Book>,
    /// `push/<session>` and `finish/<session>` of what is not answered for now.
    stalled: watch::Sender<Vec<String>>,
}

/// Serves until it is killed.
pub(crate) async fn run(options: Options) -> anyhow::Result<ExitCode> {
    let sink = web::Data::new(Sink {
        address: format!("http://{}", options.listen),
        book: Mutex::default(),
        stalled: watch::Sender::new(Vec::new()),
    });
    let serve = move || {
        let push = web::resource("/{name}/push").route(web::post().to(push));
        App::new().app_data(sink.clone()).service(push).default_service(web::to(answer))
    };
    let server = HttpServer::new(serve).workers(1).disable_signals();
    server.bind(&options.listen).context("cannot listen")?.run().await?;
    Ok(ExitCode::SUCCESS)
}

async fn answer(request: HttpRequest, sink: web::Data<Sink>, body: web::Bytes) -> HttpResponse {
    let path: Vec<&str> = request.path().split('/').filter(|part| !part.is_empty()).collect();
    match (request.method(), path.as_slice()) {
        (&Method::GET, ["bench", what]) => sink.tell(what),
        (&Method::POST, ["bench", "note"]) => sink.note(),
        (&Method::POST, ["bench", "forget"]) => sink.forget(),
        (&Method::POST, ["bench", "stall"]) => sink.stall(&body),
        (&Method::POST, [name]) => sink.create(name),
        (&Method::POST, [name, "finish"]) => {
            sink.wait("finish", name).await;
            said(sink.has(name), "finished")
        }
        (&Method::DELETE, [name, "delete"]) => said(sink.has(name), "deleted"),
        _ => HttpResponse::NotFound().finish(),
    }
}

/// Bytes are counted and hashed as they come, and count once all of them have come.
async fn push(name: web::Path<String>, sink: web::Data<Sink>, mut body: web::Payload) -> HttpResponse {
    sink.wait("push", &name).await;
    let Some((from, mut hasher)) = sink.fed(&name) else { return said(false, "pushed") };
    let mut to = from;
    while let Some(part) = body.next().await {
        let Ok(part) = part else { return HttpResponse::BadRequest().finish() };
        hasher.update(&part);
        to += part.len() as u64;
    }
    sink.push(&name, from, to, hasher)
}

/// `<session>~<generation>` is the n-th process of a session.
fn session_of(name: &str) -> &str {
    name.split('~').next().unwrap_or(name)
}

fn said(known: bool, message: &str) -> HttpResponse {
    let body = |status: &str| serde_json::json!({ "status": status, "message": message });
    match known {
        true => HttpResponse::Created().json(body("success")),
        false => HttpResponse::NotFound().json(body("error")),
    }
}

impl Sink {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn create(&self, name: &str) -> HttpResponse {
        let mut book = self.book();
        let flow = Flow { name: name.to_owned(), bytes: 0, hasher: Xxh3::new(), arrivals: Vec::new() };
        if let Some(former) = book.flows.insert(session_of(name).to_owned(), flow) {
            book.total -= former.bytes;
        }
        let url = format!("{}/{name}", self.address);
        HttpResponse::Created()
            .json(serde_json::json!({ "status": "success", "message": "created", "flowUrl": url }))
    }

    /// What a process has got so far.
    fn fed(&self, name: &str) -> Option<(u64, Xxh3)> {
        let book = self.book();
        let flow = book.flows.get(session_of(name)).filter(|flow| flow.name == name)?;
        Some((flow.bytes, flow.hasher.clone()))
    }

    /// The bytes between `from` and `to` have come.
    fn push(&self, name: &str, from: u64, to: u64, hasher: Xxh3) -> HttpResponse {
        let mut book = self.book();
        let noting = book.noting;
        let flow = book.flows.get_mut(session_of(name)).filter(|flow| flow.name == name);
        let Some(flow) = flow else { return said(false, "pushed") };
        if flow.bytes != from {
            return HttpResponse::Conflict().body("two pushes at once");
        }
        (flow.bytes, flow.hasher) = (to, hasher);
        if noting {
            flow.arrivals.push((to, now()));
        }
        book.total += to - from;
        said(true, "pushed")
    }

    fn has(&self, name: &str) -> bool {
        self.book().flows.get(session_of(name)).is_some_and(|flow| flow.name == name)
    }

    /// Returns when the call is not stalled, or no longer.
    async fn wait(&self, call: &str, name: &str) {
        let mut stalled = self.stalled.subscribe();
        let this = format!("{call}/{}", session_of(name));
        // The sender lives as long as the server.
        let _ = stalled.wait_for(|stalled| !stalled.contains(&this)).await;
    }

    /// From now on exactly these calls, one to a line, are stalled.
    fn stall(&self, body: &[u8]) -> HttpResponse {
        let calls = String::from_utf8_lossy(body).split_whitespace().map(str::to_owned).collect();
        self.stalled.send_replace(calls);
        HttpResponse::Ok().finish()
    }

    /// From now on arrivals are noted; those so far are forgotten.
    fn note(&self) -> HttpResponse {
        let mut book = self.book();
        book.noting = true;
        book.flows.values_mut().for_each(|flow| flow.arrivals.clear());
        HttpResponse::Ok().finish()
    }

    /// All processes are gone, as with a replica of fflow that was restarted.
    fn forget(&self) -> HttpResponse {
        let mut book = self.book();
        book.flows.clear();
        book.total = 0;
        HttpResponse::Ok().finish()
    }

    fn tell(&self, what: &str) -> HttpResponse {
        let book = self.book();
        let mut text = String::new();
        match what {
            "total" => text = book.total.to_string(),
            "ledger" => {
                for (session, flow) in &book.flows {
                    // Writing to a string does not fail.
                    let _ = writeln!(text, "{session} {} {:032x}", flow.bytes, flow.hasher.digest128());
                }
            }
            "arrivals" => {
                for (session, flow) in &book.flows {
                    for (bytes, at) in &flow.arrivals {
                        let _ = writeln!(text, "{session} {bytes} {}", at.as_micros());
                    }
                }
            }
            _ => return HttpResponse::NotFound().finish(),
        }
        HttpResponse::Ok().content_type("text/plain").body(text)
    }
}

/// The machine's clock, which all its processes share.
pub(super) fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn sink() -> Sink {
        Sink { address: String::new(), book: Mutex::default(), stalled: watch::Sender::new(Vec::new()) }
    }

    #[test]
    fn a_new_generation_replaces_the_one_before() {
        let sink = sink();
        sink.create("a");
        assert_eq!(sink.push("a", 0, 3, Xxh3::new()).status(), 201);
        sink.create("a~2");
        assert!(sink.fed("a").is_none());
        assert_eq!(sink.push("a", 3, 7, Xxh3::new()).status(), 404);
        assert_eq!(sink.push("a~2", 0, 1, Xxh3::new()).status(), 201);
        assert_eq!(sink.book().total, 1);
    }

    #[test]
    fn of_two_pushes_at_once_one_is_refused() {
        let sink = sink();
        sink.create("a");
        let (first, second) = (sink.fed("a").unwrap(), sink.fed("a").unwrap());
        assert_eq!(sink.push("a", first.0, 3, first.1).status(), 201);
        assert_eq!(sink.push("a", second.0, 3, second.1).status(), 409);
        assert_eq!(sink.book().total, 3);
    }
}
