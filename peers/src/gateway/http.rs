//! gateway's calls over HTTP.

use std::future::pending;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use actix_web::http::{StatusCode, header};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use serde::Deserialize;
use serde_json::json;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::Options;
use super::broker::Broker;
use super::headers::ChunkHeaders;
use super::replies::Reply;
use super::store::Store;
use crate::answer;

const SHUTDOWN_SECONDS: u64 = 2;
/// The pause before the database is asked again.
const ASK_AGAIN: Duration = Duration::from_millis(200);
/// The longest title that its column takes, in characters.
const TITLE_LIMIT: usize = 255;

/// What the handlers work with.
pub(super) struct Gateway {
    pub(super) options: Options,
    pub(super) store: Store,
    pub(super) broker: Broker,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct NewVideo {
    title: String,
    #[serde(default)]
    description: String,
    total_bytes_list: Vec<i64>,
}

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
/// When the address cannot be listened on.
pub(super) async fn serve(listen: SocketAddr, gateway: Arc<Gateway>) -> std::io::Result<()> {
    HttpServer::new(move || {
        App::new()
            .app_data(web::Data::from(Arc::clone(&gateway)))
            .app_data(web::PayloadConfig::new(answer::BODY_LIMIT))
            .route("/healthz", web::get().to(HttpResponse::Ok))
            .route("/create-video", web::post().to(create_video))
            .route("/upload/{session}", web::post().to(upload))
            .route("/state/{video}", web::get().to(state))
    })
    .workers(1)
    .shutdown_timeout(SHUTDOWN_SECONDS)
    .bind(listen)?
    .run()
    .await
}

async fn create_video(
    request: HttpRequest,
    body: Result<web::Json<NewVideo>, actix_web::Error>,
    gateway: web::Data<Gateway>,
) -> HttpResponse {
    if !allowed(&request, &gateway) {
        return answer::message(StatusCode::UNAUTHORIZED, "a bearer token is needed");
    }
    let video = match body {
        Ok(video) => video.into_inner(),
        Err(error) => return answer::message(StatusCode::BAD_REQUEST, &error.to_string()),
    };
    if video.total_bytes_list.is_empty() || video.total_bytes_list.iter().any(|size| *size < 0) {
        return answer::message(StatusCode::BAD_REQUEST, "totalBytesList needs sizes from 0");
    }
    if video.title.chars().count() > TITLE_LIMIT {
        return answer::message(StatusCode::BAD_REQUEST, "the title is too long");
    }
    let created = gateway.store.create_video(&video.title, &video.description, &video.total_bytes_list).await;
    match created {
        Ok(id) => video_answer(&gateway, id, StatusCode::CREATED).await,
        Err(error) => failed(&error.into()),
    }
}

async fn state(video: web::Path<String>, gateway: web::Data<Gateway>) -> HttpResponse {
    match Uuid::parse_str(&video) {
        Ok(id) => video_answer(&gateway, id, StatusCode::OK).await,
        Err(_) => unknown("video"),
    }
}

async fn upload(
    request: HttpRequest,
    session: web::Path<String>,
    body: Result<web::Bytes, actix_web::Error>,
    gateway: web::Data<Gateway>,
) -> HttpResponse {
    if !allowed(&request, &gateway) {
        return answer::message(StatusCode::UNAUTHORIZED, "a bearer token is needed");
    }
    let body = match body {
        Ok(body) => body,
        Err(error) => return answer::unreadable_body(&error),
    };
    let (Some(start), Some(size)) = (number(&request, "x-start-byte"), number(&request, "x-size")) else {
        return answer::message(StatusCode::BAD_REQUEST, "x-start-byte and x-size must be numbers");
    };
    let Ok(id) = Uuid::parse_str(&session) else { return unknown("upload session") };
    match has_session(&gateway, id).await {
        Ok(true) => {}
        Ok(false) => return unknown("upload session"),
        Err(error) => return failed(&error.into()),
    }
    let correlation_id = Uuid::new_v4().to_string();
    let headers = ChunkHeaders { session_id: session.into_inner(), start, size, correlation_id };
    deliver(&gateway, &headers, &body).await
}

/// Whether there is such a session. While the database is away the kind gateway asks again, for as long as it would
/// await a reply.
async fn has_session(gateway: &Gateway, id: Uuid) -> Result<bool, sea_orm::DbErr> {
    let end = Instant::now() + gateway.options.reply_timeout;
    loop {
        match gateway.store.has_session(id).await {
            Err(_) if !gateway.options.as_observed && Instant::now() < end => sleep(ASK_AGAIN).await,
            answered => return answered,
        }
    }
}

/// Publishes the chunk and awaits its reply, by the deadline or, as observed, for ever.
async fn deliver(gateway: &Gateway, headers: &ChunkHeaders, body: &[u8]) -> HttpResponse {
    let delivery = async {
        let mut awaited = gateway.broker.publish(headers, body).await?;
        anyhow::Ok(awaited.reply().await)
    };
    let limit = async {
        if gateway.options.as_observed {
            pending::<()>().await;
        }
        sleep(gateway.options.reply_timeout).await;
    };
    let outcome = tokio::select! {
        outcome = delivery => outcome,
        () = limit => return answer::message(StatusCode::GATEWAY_TIMEOUT, "no reply to the chunk in time"),
    };
    match outcome {
        Ok(Some(Reply::Ack)) => answer::message(StatusCode::CREATED, "chunk uploaded"),
        Ok(Some(Reply::Nack(why))) => answer::message(StatusCode::BAD_REQUEST, &why),
        Ok(None) => answer::message(StatusCode::INTERNAL_SERVER_ERROR, "the reply was lost"),
        Err(error) => failed(&error),
    }
}

async fn video_answer(gateway: &Gateway, id: Uuid, status: StatusCode) -> HttpResponse {
    match gateway.store.video(id, &gateway.options.holder_url).await {
        Ok(Some(video)) => answer::with(status, &json!({ "status": "success", "payload": video })),
        Ok(None) => unknown("video"),
        Err(error) => failed(&error),
    }
}

/// The bearer token is right, or none is asked for.
fn allowed(request: &HttpRequest, gateway: &Gateway) -> bool {
    let Some(token) = &gateway.options.token else { return true };
    let header = request.headers().get(header::AUTHORIZATION);
    header.and_then(|value| value.to_str().ok()?.strip_prefix("Bearer ")).is_some_and(|given| given == token)
}

/// A number as JavaScript would read it: fractions, signs and infinities pass; that is the uploader's to judge.
fn number(request: &HttpRequest, name: &str) -> Option<f64> {
    let value: f64 = request.headers().get(name)?.to_str().ok()?.trim().parse().ok()?;
    (!value.is_nan()).then_some(value)
}

fn unknown(what: &str) -> HttpResponse {
    answer::message(StatusCode::NOT_FOUND, &format!("no such {what}"))
}

fn failed(error: &anyhow::Error) -> HttpResponse {
    tracing::error!(error = format!("{error:#}"), "a call has failed");
    answer::message(StatusCode::INTERNAL_SERVER_ERROR, &format!("{error:#}"))
}
