//! fflow's calls over HTTP.

use std::net::SocketAddr;
use std::sync::Arc;

use actix_web::http::{StatusCode, header};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use serde::Deserialize;
use serde_json::json;

use super::farm::{Done, Farm};
use crate::answer;

/// Seconds that open requests get at the end; a finish that takes longer is lost with its ffmpeg.
const SHUTDOWN_SECONDS: u64 = 2;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Finish {
    saving_path: String,
}

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
/// When the address cannot be listened on.
pub(super) async fn serve(listen: SocketAddr, farm: Arc<Farm>) -> std::io::Result<()> {
    HttpServer::new(move || {
        App::new()
            .app_data(web::Data::from(Arc::clone(&farm)))
            .app_data(web::PayloadConfig::new(answer::BODY_LIMIT))
            .route("/healthz", web::get().to(HttpResponse::Ok))
            .service(
                web::scope(farm.prefix())
                    .route("/healthz", web::get().to(HttpResponse::Ok))
                    .route("/{name}/push", web::post().to(push))
                    .route("/{name}/finish", web::post().to(finish))
                    .route("/{name}/delete", web::delete().to(delete))
                    .route("/{name}", web::post().to(create))
                    .route("/{name}", web::get().to(report)),
            )
    })
    // All work is waiting; one thread also keeps the parent of every ffmpeg alive as long as the server.
    .workers(1)
    .shutdown_timeout(SHUTDOWN_SECONDS)
    .bind(listen)?
    .run()
    .await
}

async fn create(name: web::Path<String>, farm: web::Data<Farm>) -> HttpResponse {
    match farm.create(&name) {
        Done::Well(message) => {
            let flow_url = farm.flow_url(&name);
            let body = json!({ "status": "success", "message": message, "flowUrl": flow_url });
            answer::with(StatusCode::CREATED, &body)
        }
        done @ (Done::Unknown | Done::Refused(_) | Done::Failed(_)) => respond(done, StatusCode::CREATED),
    }
}

async fn push(
    request: HttpRequest,
    name: web::Path<String>,
    body: Result<web::Bytes, actix_web::Error>,
    farm: web::Data<Farm>,
) -> HttpResponse {
    let content_type = request.headers().get(header::CONTENT_TYPE);
    if content_type.is_none_or(|value| value != "application/octet-stream") {
        return answer::message(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the content type must be application/octet-stream",
        );
    }
    match body {
        Ok(bytes) => respond(farm.push(&name, bytes).await, StatusCode::CREATED),
        Err(error) => answer::unreadable_body(&error),
    }
}

/// Goes on to its end when the client leaves, so that a proxy's timeout stops no work.
async fn finish(name: web::Path<String>, body: web::Json<Finish>, farm: web::Data<Farm>) -> HttpResponse {
    let work = async move { farm.finish(&name, &body.saving_path).await };
    match actix_web::rt::spawn(work).await {
        Ok(done) => respond(done, StatusCode::CREATED),
        Err(error) => answer::message(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

async fn delete(name: web::Path<String>, farm: web::Data<Farm>) -> HttpResponse {
    let work = async move { farm.delete(&name).await };
    match actix_web::rt::spawn(work).await {
        Ok(done) => respond(done, StatusCode::OK),
        Err(error) => answer::message(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

async fn report(name: web::Path<String>, farm: web::Data<Farm>) -> HttpResponse {
    match farm.report(&name) {
        Some(report) => HttpResponse::Ok().json(report),
        None => respond(Done::Unknown, StatusCode::OK),
    }
}

fn respond(done: Done, success: StatusCode) -> HttpResponse {
    match done {
        Done::Well(message) => answer::message(success, message),
        Done::Unknown => answer::message(StatusCode::NOT_FOUND, "no such flow"),
        Done::Refused(why) => answer::message(StatusCode::BAD_REQUEST, &why),
        Done::Failed(why) => answer::message(StatusCode::INTERNAL_SERVER_ERROR, &why),
    }
}
