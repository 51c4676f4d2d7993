//! The HTTP of a recording fflow: balancer, replicas and holder on one port.

use std::any::Any;
use std::future::pending;
use std::io;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use actix_web::dev::{Extensions, ServerHandle};
use actix_web::http::{Method, StatusCode, header};
use actix_web::rt::System;
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;

use super::Shared;
use super::effect::{Answer, Outcome};
use super::fault::CallKind;
use super::ledger::{CallId, Target};
use super::road::{self, Request};
use crate::media::media_type;

/// fflow refuses bodies above this many bytes.
const BODY_LIMIT: u64 = 10 << 20;
/// As nginx has it; shorter ones than a test's pauses would end connections on their own account.
const KEEP_ALIVE: Duration = Duration::from_secs(75);

/// Runs the server on this thread until its handle, told once it listens, stops it.
pub(super) fn serve(listener: TcpListener, shared: Arc<Shared>, tell: &Sender<io::Result<ServerHandle>>) {
    System::new().block_on(async move {
        let server = HttpServer::new(move || {
            App::new()
                .app_data(web::Data::from(Arc::clone(&shared)))
                .route("/healthz", web::get().to(HttpResponse::Ok))
                .route("/holder/{path:.*}", web::route().to(holder_file))
                .route("/r{replica:[0-9]+}/{name}/{action}", web::route().to(call))
                .route("/r{replica:[0-9]+}/{name}", web::route().to(call))
                .route("/{name}/{action}", web::route().to(call))
                .route("/{name}", web::route().to(call))
        })
        .workers(1)
        .keep_alive(KEEP_ALIVE)
        .shutdown_timeout(0)
        .disable_signals()
        .on_connect(remember_connection)
        .listen(listener);
        match server {
            Ok(server) => {
                let running = server.run();
                let _ = tell.send(Ok(running.handle()));
                let _ = running.await;
            }
            Err(error) => drop(tell.send(Err(error))),
        }
    });
}

/// A second handle of the connection's socket, to end it without an answer.
struct Wire(TcpStream);

fn remember_connection(connection: &dyn Any, extensions: &mut Extensions) {
    let stream = connection.downcast_ref::<actix_web::rt::net::TcpStream>();
    if let Some(Ok(copy)) = stream.map(|stream| stream.as_fd().try_clone_to_owned()) {
        extensions.insert(Wire(TcpStream::from(copy)));
    }
}

async fn call(http: HttpRequest, payload: web::Payload, shared: web::Data<Shared>) -> HttpResponse {
    let shared = shared.into_inner();
    let Some(target) = target(&http, &shared) else {
        return respond(&Answer::json(404, "no such call"));
    };
    let announced = announced_length(&http);
    let id = shared.ledger().record_call(&target, announced, traceparent(&http));
    let _in_flight = InFlight::begin(&shared, &target);
    let outcome = answer(&http, payload, &shared, target).await;
    conclude(&http, &shared, id, outcome).await
}

fn traceparent(http: &HttpRequest) -> Option<String> {
    http.headers().get("traceparent")?.to_str().ok().map(str::to_owned)
}

/// Reads the call and has it carried out in a task of its own, which a client that leaves does not end.
async fn answer(http: &HttpRequest, payload: web::Payload, shared: &Arc<Shared>, target: Target) -> Outcome {
    if !shared.ledger().is_alive(target.replica) {
        return Answer::html(502, "Bad Gateway").into();
    }
    let body = match read_body(http, payload, shared).await {
        Ok(body) => body,
        Err(outcome) => return outcome,
    };
    let (proxy_timeout, fault) = {
        let mut ledger = shared.ledger();
        (ledger.options().proxy_timeout, ledger.take_fault(&target))
    };
    let saving_path = serde_json::from_slice::<serde_json::Value>(&body)
        .ok()
        .and_then(|value| value.get("savingPath")?.as_str().map(str::to_owned))
        .unwrap_or_default();
    let octet_stream =
        http.headers().get(header::CONTENT_TYPE).is_some_and(|value| value == "application/octet-stream");
    let request = Request { target, body, octet_stream, saving_path };
    let work = actix_web::rt::spawn(road::carry_out(Arc::clone(shared), request, fault));
    let done = match proxy_timeout {
        None => work.await,
        Some(limit) => match tokio::time::timeout(limit, work).await {
            Ok(done) => done,
            Err(_) => return Answer::html(504, "Gateway Time-out").into(),
        },
    };
    match done {
        Ok(Outcome::Hang(end)) if proxy_timeout.is_some_and(|limit| end.is_none_or(|end| end > limit)) => {
            tokio::time::sleep(proxy_timeout.unwrap_or_default()).await;
            Answer::html(504, "Gateway Time-out").into()
        }
        Ok(outcome) => outcome,
        Err(_) => Outcome::Close,
    }
}

async fn conclude(http: &HttpRequest, shared: &Shared, id: CallId, outcome: Outcome) -> HttpResponse {
    match outcome {
        Outcome::Answer(answer) => {
            shared.ledger().record_answer(id, answer.status);
            shared.notify();
            return respond(&answer);
        }
        Outcome::Close => {}
        Outcome::Hang(Some(end)) => tokio::time::sleep(end).await,
        Outcome::Hang(None) => pending::<()>().await,
    }
    if let Some(Wire(stream)) = http.conn_data::<Wire>() {
        let _ = stream.shutdown(Shutdown::Both);
    }
    // Nobody gets this any more: the connection is gone.
    HttpResponse::InternalServerError().force_close().finish()
}

fn target(http: &HttpRequest, shared: &Shared) -> Option<Target> {
    let parts = http.match_info();
    let kind = match (http.method(), parts.get("action")) {
        (&Method::POST, None) => CallKind::Create,
        (&Method::POST, Some("push")) => CallKind::Push,
        (&Method::POST, Some("finish")) => CallKind::Finish,
        (&Method::DELETE, Some("delete")) => CallKind::Delete,
        _ => return None,
    };
    let name = parts.get("name")?.to_owned();
    let mut ledger = shared.ledger();
    let replica = match parts.get("replica") {
        Some(number) => number.parse().ok().filter(|&replica| ledger.has_replica(replica))?,
        None => ledger.next_replica().unwrap_or(0),
    };
    Some(Target { kind, name, replica })
}

fn announced_length(http: &HttpRequest) -> u64 {
    let length = http.headers().get(header::CONTENT_LENGTH);
    length.and_then(|value| value.to_str().ok()?.parse().ok()).unwrap_or(0)
}

/// The whole body, or the refusal of one that is too long for the balancer or for fflow.
async fn read_body(http: &HttpRequest, mut payload: web::Payload, shared: &Shared) -> Result<Bytes, Outcome> {
    let proxy_limit = shared.ledger().options().proxy_body_limit.unwrap_or(u64::MAX);
    let too_long = |length: u64| {
        let proxy = (length > proxy_limit).then(|| Answer::html(413, "Request Entity Too Large").into());
        proxy.or((length > BODY_LIMIT).then(|| Answer::json(413, "request entity too large").into()))
    };
    if let Some(refusal) = too_long(announced_length(http)) {
        return Err(refusal);
    }
    let mut body = BytesMut::new();
    while let Some(part) = payload.next().await {
        body.extend_from_slice(&part.map_err(|_| Outcome::Close)?);
        if let Some(refusal) = too_long(body.len() as u64) {
            return Err(refusal);
        }
    }
    Ok(body.freeze())
}

fn respond(answer: &Answer) -> HttpResponse {
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    HttpResponse::build(status).content_type(answer.content_type).body(answer.body.clone())
}

async fn holder_file(path: web::Path<String>, shared: web::Data<Shared>) -> HttpResponse {
    let path = path.into_inner();
    let ledger = shared.ledger();
    match ledger.files().get(path.as_str()) {
        _ if ledger.holder_down() => HttpResponse::ServiceUnavailable().finish(),
        Some(bytes) => HttpResponse::Ok()
            .content_type(media_type(&path))
            .insert_header((header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"))
            .body(bytes.clone()),
        None => HttpResponse::NotFound().finish(),
    }
}

/// Counts a push while its request is open, to notice two at once in one flow.
struct InFlight {
    shared: Arc<Shared>,
    target: Option<Target>,
}

impl InFlight {
    fn begin(shared: &Arc<Shared>, target: &Target) -> Self {
        let counted = (target.kind == CallKind::Push).then(|| target.clone());
        if let Some(target) = &counted
            && let Some(entry) = shared.ledger().live_entry(target)
        {
            entry.pushes_in_flight += 1;
            entry.flow.concurrent_pushes_seen |= entry.pushes_in_flight > 1;
        }
        Self { shared: Arc::clone(shared), target: counted }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let Some(target) = self.target.take() else { return };
        if let Some(entry) = self.shared.ledger().live_entry(&target) {
            entry.pushes_in_flight = entry.pushes_in_flight.saturating_sub(1);
        }
    }
}
