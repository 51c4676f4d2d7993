//! A client of fflow's calls, as the product makes them.

use std::time::Duration;

use actix_web::http::Method;
use awc::Client;
use serde_json::{Value, json};

/// Longer than any answer takes, short enough to show that none comes.
const PATIENCE: Duration = Duration::from_secs(2);

/// Status and body, or `None` when no answer came.
pub async fn send(
    method: Method,
    url: &str,
    content_type: &str,
    body: impl Into<Vec<u8>>,
) -> Option<(u16, Vec<u8>)> {
    send_patiently(PATIENCE, method, url, content_type, body).await
}

pub async fn send_patiently(
    patience: Duration,
    method: Method,
    url: &str,
    content_type: &str,
    body: impl Into<Vec<u8>>,
) -> Option<(u16, Vec<u8>)> {
    let client = Client::builder().timeout(patience).finish();
    let request = client.request(method, url).insert_header(("content-type", content_type));
    let mut answer = request.send_body(body.into()).await.ok()?;
    Some((answer.status().as_u16(), answer.body().limit(16 << 20).await.ok()?.to_vec()))
}

/// Creates a flow and gives the address that came back.
pub async fn create(base: &str, name: &str) -> String {
    let (status, body) =
        send(Method::POST, &format!("{base}/{name}"), "application/json", "").await.expect("an answer");
    assert_eq!(status, 201, "{}", String::from_utf8_lossy(&body));
    let answer: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(answer["status"], "success");
    answer["flowUrl"].as_str().unwrap().to_owned()
}

pub async fn push(flow: &str, bytes: impl Into<Vec<u8>>) -> Option<u16> {
    let url = format!("{flow}/push");
    let answer =
        send_patiently(Duration::from_secs(60), Method::POST, &url, "application/octet-stream", bytes).await;
    answer.map(|answer| answer.0)
}

pub async fn finish(flow: &str, path: &str, patience: Duration) -> Option<u16> {
    let body = json!({ "savingPath": path }).to_string();
    let url = format!("{flow}/finish");
    send_patiently(patience, Method::POST, &url, "application/json", body).await.map(|answer| answer.0)
}

pub async fn delete(flow: &str) -> Option<u16> {
    send(Method::DELETE, &format!("{flow}/delete"), "application/json", "").await.map(|answer| answer.0)
}

/// The JSON of a GET that must succeed.
pub async fn get_json(url: &str) -> Value {
    let (status, body) = send(Method::GET, url, "application/json", "").await.expect("an answer");
    assert_eq!(status, 200);
    serde_json::from_slice(&body).unwrap()
}
