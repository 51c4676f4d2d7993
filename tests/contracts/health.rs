//! The service's own server answers as `docs/openapi.yaml` says, example by example.

use std::collections::BTreeSet;

use serde_json::Value;
use uploader_v4::config::HttpConfig;
use uploader_v4::http::HealthServer;
use uploader_v4::readiness::{Dependency, Readiness, State};

use crate::document::Document;

struct Answer {
    status: String,
    media: String,
    caching: String,
    body: String,
}

async fn ask(board: &Readiness, path: &str) -> Answer {
    let config = HttpConfig { addr: ([127, 0, 0, 1], 0).into() };
    let server = HealthServer::start(&config, board.clone()).unwrap();
    let url = format!("http://{}{path}", server.address());
    let mut answer = awc::Client::default().get(url).send().await.unwrap();
    let header = |name: &str| answer.headers().get(name).unwrap().to_str().unwrap().to_owned();
    let media = header("content-type").split(';').next().unwrap().to_owned();
    let (status, caching) = (answer.status().as_u16().to_string(), header("cache-control"));
    let body = String::from_utf8(answer.body().await.unwrap().to_vec()).unwrap();
    server.stop().await;
    Answer { status, media, caching, body }
}

fn name(dependency: Dependency) -> String {
    serde_json::to_value(dependency).unwrap().as_str().unwrap().to_owned()
}

fn state(said: &Value) -> State {
    let reason = said["reason"].as_str().unwrap_or_default().to_owned();
    match said["state"].as_str().unwrap() {
        "up" => State::Up,
        "degraded" => State::Degraded(reason),
        "down" => State::Down(reason),
        other => panic!("no state is {other}"),
    }
}

/// A board on which everything is as an example says.
fn board(example: &Value) -> Readiness {
    let board = Readiness::new();
    for dependency in Dependency::ALL {
        board.set(dependency, state(&example["dependencies"][name(dependency)]));
    }
    board
}

/// Status, media type, name and value of every example of a path.
fn examples(document: &Document, path: &str) -> Vec<(String, String, String, Value)> {
    let responses = document.at(&format!("/paths/{}/get/responses", path.replace('/', "~1")));
    let mut found = Vec::new();
    for (status, response) in responses.as_object().unwrap() {
        for (media, content) in response["content"].as_object().unwrap() {
            for (name, example) in content["examples"].as_object().unwrap() {
                found.push((status.clone(), media.clone(), name.clone(), example["value"].clone()));
            }
        }
    }
    found
}

#[actix_web::test]
async fn every_readiness_example_is_answered_exactly_so() {
    let document = Document::openapi();
    let examples = examples(&document, "/readyz");
    assert!(examples.len() >= 5);
    for (status, media, name, value) in examples {
        let schema =
            format!("/paths/~1readyz/get/responses/{status}/content/{}/schema", media.replace('/', "~1"));
        let complaints = document.complaints(&schema, &value);
        assert!(complaints.is_empty(), "{name}: {complaints:?}");
        let answer = ask(&board(&value), "/readyz").await;
        assert_eq!((answer.status, answer.media), (status, media), "{name}");
        assert_eq!(answer.caching, "no-store");
        assert_eq!(serde_json::from_str::<Value>(&answer.body).unwrap(), value, "{name}");
    }
}

#[test]
fn a_new_board_and_any_mixture_on_it_fit_the_schema() {
    let document = Document::openapi();
    let schema = "/components/schemas/Readiness";
    let new = serde_json::to_value(Readiness::new().snapshot()).unwrap();
    let starting = "/paths/~1readyz/get/responses/503/content/application~1json/examples/starting/value";
    assert_eq!(&new, document.at(starting));
    for dependency in Dependency::ALL {
        for state in [State::Up, State::Degraded("slow".into()), State::Down("gone".into())] {
            let board = Readiness::new();
            board.set(dependency, state);
            let value = serde_json::to_value(board.snapshot()).unwrap();
            let complaints = document.complaints(schema, &value);
            assert!(complaints.is_empty(), "{value}: {complaints:?}");
        }
    }
}

#[test]
fn the_schema_names_exactly_the_dependencies_of_the_service() {
    let document = Document::openapi();
    let schema = document.at("/components/schemas/Readiness/properties/dependencies");
    let required: BTreeSet<&str> =
        schema["required"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    let described: BTreeSet<&str> =
        schema["properties"].as_object().unwrap().keys().map(String::as_str).collect();
    let names = Dependency::ALL.map(name);
    assert_eq!(required, names.iter().map(String::as_str).collect());
    assert_eq!(required, described);
}

#[actix_web::test]
async fn every_liveness_example_is_answered_exactly_so() {
    for (status, media, name, value) in examples(&Document::openapi(), "/livez") {
        let board = Readiness::new();
        let text = value.as_str().unwrap();
        match name.as_str() {
            "alive" => {}
            "dead" => board.set(Dependency::Lines, State::Down(text.to_owned())),
            other => panic!("nobody knows how to be {other}"),
        }
        let answer = ask(&board, "/livez").await;
        assert_eq!((answer.status, answer.media, answer.body), (status, media, text.to_owned()), "{name}");
        assert_eq!(answer.caching, "no-store");
    }
}
