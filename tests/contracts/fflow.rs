//! The service's own client makes the calls of `docs/openapi-fflow.yaml`, and takes its answers for what they are.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::thread::JoinHandle;

use bytes::Bytes;
use serde_json::Value;
use uploader_v4::config::{Config, ConfigSources, FflowConfig};
use uploader_v4::domain::ids::{FlowName, Generation, SessionId};
use uploader_v4::domain::route::{self, AllowList};
use uploader_v4::gateways::fflow::{AwcFflow, Fflow, FflowError};

use crate::document::Document;

const BASE: &str = "http://localhost:4050";
const CALLS: [(&str, &str, &str); 4] = [
    ("create", "/{name}", "post"),
    ("push", "/{name}/push", "post"),
    ("finish", "/{name}/finish", "post"),
    ("delete", "/{name}/delete", "delete"),
];

/// One request as it came.
struct Request {
    method: String,
    path: String,
    media: Option<String>,
    body: Vec<u8>,
}

/// Hears one request and answers it with these bytes.
fn answering(answer: Vec<u8>) -> (String, JoinHandle<Request>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let heard = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let request = read(&mut BufReader::new(stream.try_clone().unwrap()));
        stream.write_all(&answer).unwrap();
        request
    });
    (base, heard)
}

fn read(stream: &mut impl BufRead) -> Request {
    let line = |stream: &mut dyn BufRead| {
        let mut line = String::new();
        stream.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    };
    let first = line(stream);
    let mut words = first.split(' ').map(str::to_owned);
    let mut headers = BTreeMap::new();
    while let Some((name, value)) = line(stream).split_once(": ") {
        headers.insert(name.to_lowercase(), value.to_owned());
    }
    let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).unwrap();
    let media = headers.remove("content-type");
    Request { method: words.next().unwrap().to_lowercase(), path: words.next().unwrap(), media, body }
}

fn config(base: &str) -> FflowConfig {
    let env = BTreeMap::from([("FFLOW_BASE_URL".to_owned(), base.to_owned())]);
    Config::load(ConfigSources { file: None, env }).unwrap().0.fflow
}

/// The name that the contract gives as its example.
fn name(document: &Document) -> FlowName {
    let said = document.at("/components/parameters/name/example").as_str().unwrap();
    let session = SessionId::parse(said.split('~').next().unwrap().as_bytes()).unwrap();
    let name = Generation(2).name(session);
    assert_eq!(name.as_str(), said);
    name
}

fn finish_example(document: &Document) -> &Value {
    document.at("/paths/~1{name}~1finish/post/requestBody/content/application~1json/examples/finish/value")
}

/// Makes one call of the real client; the address in the answer to a create.
async fn call(document: &Document, call: &str, base: &str) -> Result<String, FflowError> {
    let client = AwcFflow::new(config(base), 8);
    let name = name(document);
    let flow = route::at_replica(&format!("{base}/r2"), &name, &AllowList::new([base])).unwrap();
    match call {
        "create" => client.create(&name).await,
        "push" => client.push(&flow, Bytes::from_static(b"bytes")).await.map(|()| String::new()),
        "finish" => {
            let path = finish_example(document)["savingPath"].as_str().unwrap();
            client.finish(&flow, path).await.map(|()| String::new())
        }
        "delete" => client.delete(&flow).await.map(|()| String::new()),
        other => panic!("no call is {other}"),
    }
}

fn answer(status: &str, media: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status} Said\r\nContent-Type: {media}\r\nContent-Length: {length}\r\n\r\n{body}")
        .into()
}

fn operation<'a>(document: &'a Document, path: &str, method: &str) -> &'a Value {
    document.at(&format!("/paths/{}/{method}", path.replace('/', "~1")))
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[actix_rt::test]
async fn every_call_looks_as_the_contract_says() {
    let document = Document::fflow();
    for (id, path, method) in CALLS {
        let said = operation(&document, path, method);
        assert_eq!(said["operationId"], id);
        let (base, heard) = answering(answer("201", "application/json", r#"{"flowUrl":"http://f/"}"#));
        call(&document, id, &base).await.unwrap();
        let request = heard.join().unwrap();
        let replica = if id == "create" { "" } else { "/r2" };
        let expected = format!("{replica}{}", path.replace("{name}", name(&document).as_str()));
        assert_eq!((request.method.as_str(), request.path), (method, expected));
        let Some(content) = said["requestBody"]["content"].as_object() else {
            assert!(request.body.is_empty() && request.media.is_none(), "{id} sends nothing");
            continue;
        };
        let media = content.keys().next().unwrap();
        assert_eq!(request.media.as_ref(), Some(media), "{id}");
        let body = String::from_utf8(request.body).unwrap();
        let body = if id == "finish" { serde_json::from_str(&body).unwrap() } else { Value::String(body) };
        if id == "finish" {
            assert_eq!(&body, finish_example(&document));
        }
        let at = format!(
            "/paths/{}/{method}/requestBody/content/{}/schema",
            path.replace('/', "~1"),
            media.replace('/', "~1")
        );
        let complaints = document.complaints(&at, &body);
        assert!(complaints.is_empty(), "{id}: {complaints:?}");
    }
}

/// What the client takes an answer for, in the contract's word.
fn taken_for(result: &Result<String, FflowError>) -> &'static str {
    match result {
        Ok(_) => "done",
        Err(FflowError::Status { .. }) => "status",
        Err(FflowError::Unknown(_)) => "unknown",
        Err(FflowError::NotSent(_)) => "not sent",
    }
}

#[actix_rt::test]
async fn every_answer_is_taken_for_what_the_contract_says() {
    let document = Document::fflow();
    let mut count = 0;
    for (id, path, method) in CALLS {
        let responses = operation(&document, path, method)["responses"].as_object().unwrap();
        for (status, response) in responses {
            let (media, content) = response["content"].as_object().unwrap().iter().next().unwrap();
            for (said, example) in content["examples"].as_object().unwrap() {
                let (base, heard) = answering(answer(status, media, &text(&example["value"])));
                let result = call(&document, id, &base).await;
                heard.join().unwrap();
                assert_eq!(example["x-taken-for"], taken_for(&result), "{id} {status} {said}: {result:?}");
                check_details(&document, status, example, result);
                count += 1;
            }
        }
    }
    assert!(count >= 14, "{count}");
}

fn check_details(document: &Document, status: &str, example: &Value, result: Result<String, FflowError>) {
    if let Some(flow) = example["x-flow"].as_str() {
        let found = route::from_answer(&result.unwrap(), &name(document), &AllowList::new([BASE])).unwrap();
        assert_eq!(found.as_str(), flow);
    } else if let Err(FflowError::Status { status: heard, message }) = result {
        assert_eq!(heard.to_string(), status);
        let said = example["value"]["message"].as_str().unwrap_or("<html>");
        assert!(message.starts_with(said), "{message}");
    }
}

#[test]
fn the_deadlines_and_sizes_in_the_text_are_those_of_the_settings() {
    let (document, fflow) = (Document::fflow(), config(BASE));
    let limits = [fflow.create_timeout, fflow.push_timeout, fflow.finish_timeout, fflow.delete_timeout];
    for ((_, path, method), limit) in CALLS.into_iter().zip(limits) {
        let said = operation(&document, path, method)["description"].as_str().unwrap();
        assert!(said.starts_with(&format!("Deadline {} s", limit.as_secs())), "{said}");
    }
    let block = "/paths/~1{name}~1push/post/requestBody/content/application~1octet-stream/schema/maxLength";
    let feed = Config::load(ConfigSources { file: None, env: BTreeMap::new() }).unwrap().0.feed;
    assert_eq!(document.at(block).as_u64(), Some(feed.push_block));
}
