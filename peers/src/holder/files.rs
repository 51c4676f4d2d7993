//! holder's files over HTTP: media types of streams, ranges, and any origin may read.

use std::io;
use std::net::SocketAddr;
use std::path::{Component, Path, PathBuf};

use actix_files::NamedFile;
use actix_web::http::header::DispositionType;
use actix_web::http::{StatusCode, header};
use actix_web::middleware::DefaultHeaders;
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};

use crate::answer;
use crate::media::media_type;

const SHUTDOWN_SECONDS: u64 = 2;

struct Root(PathBuf);

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
/// When the address cannot be listened on.
pub(super) async fn serve(listen: SocketAddr, root: PathBuf) -> io::Result<()> {
    let root = web::Data::new(Root(root));
    HttpServer::new(move || {
        App::new()
            .app_data(root.clone())
            .wrap(any_origin())
            .route("/healthz", web::get().to(HttpResponse::Ok))
            .route("/{path:.*}", web::get().to(file))
            .route("/{path:.*}", web::head().to(file))
            .route("/{path:.*}", web::method(actix_web::http::Method::OPTIONS).to(HttpResponse::NoContent))
    })
    .workers(1)
    .shutdown_timeout(SHUTDOWN_SECONDS)
    .bind(listen)?
    .run()
    .await
}

fn any_origin() -> DefaultHeaders {
    DefaultHeaders::new()
        .add((header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"))
        .add((header::ACCESS_CONTROL_ALLOW_METHODS, "GET, HEAD, OPTIONS"))
        .add((header::ACCESS_CONTROL_ALLOW_HEADERS, "Range"))
        .add((header::ACCESS_CONTROL_EXPOSE_HEADERS, "Content-Length, Content-Range"))
}

async fn file(request: HttpRequest, path: web::Path<String>, root: web::Data<Root>) -> HttpResponse {
    let Some(file) = inside(&root.0, &path) else { return not_found() };
    let (Ok(found), Ok(media_type)) = (NamedFile::open_async(&file).await, media_type(&path).parse()) else {
        return not_found();
    };
    if !found.metadata().is_file() {
        return not_found();
    }
    found.set_content_type(media_type).set_content_disposition(inline()).into_response(&request)
}

fn inline() -> header::ContentDisposition {
    header::ContentDisposition { disposition: DispositionType::Inline, parameters: Vec::new() }
}

fn not_found() -> HttpResponse {
    answer::message(StatusCode::NOT_FOUND, "no such file")
}

/// The path below the root; `None` when it would leave it.
fn inside(root: &Path, path: &str) -> Option<PathBuf> {
    let path = Path::new(path);
    let plain = path.components().all(|part| matches!(part, Component::Normal(_)));
    plain.then(|| root.join(path))
}
