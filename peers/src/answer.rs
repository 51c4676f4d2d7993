//! The JSON that gateway and fflow answer with.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use serde_json::{Value, json};

/// Bodies above this many bytes are refused with 413, by gateway and fflow alike.
pub(crate) const BODY_LIMIT: usize = 10 << 20;

/// `status` and `message`, as every answer without a payload carries them.
pub(crate) fn message(status: StatusCode, message: &str) -> HttpResponse {
    let word = if status.is_success() { "success" } else { "error" };
    with(status, &json!({ "status": word, "message": message }))
}

/// An answer of its own shape.
pub(crate) fn with(status: StatusCode, body: &Value) -> HttpResponse {
    HttpResponse::build(status).json(body)
}

/// The answer to a body that could not be read, mostly because it is too long.
pub(crate) fn unreadable_body(error: &actix_web::Error) -> HttpResponse {
    message(error.as_response_error().status_code(), &error.to_string())
}
