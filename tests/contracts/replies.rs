//! The replies of `docs/asyncapi.yaml` and the table of `docs/PROTOCOL.md` are what the service's encoder makes.

use std::collections::BTreeSet;

use lapin::BasicProperties;
use lapin::types::AMQPValue;
use serde_json::{Map, Value};
use uploader_v4::domain::ids::CorrelationId;
use uploader_v4::domain::session::Refusal;
use uploader_v4::gateways::broker::wire;
use uploader_v4::ticket::Reply;

use crate::chunks::settings;
use crate::document::Document;
use crate::situations::refusals;

const PROTOCOL: &str = include_str!("../../docs/PROTOCOL.md");
const ACK: &str = "/components/messages/ack";
const NACK: &str = "/components/messages/nack";

fn reply(refusal: Option<Refusal>) -> Reply {
    Reply { correlation: CorrelationId::parse(b"c-1").unwrap(), refusal }
}

fn published(reply: &Reply) -> BasicProperties {
    wire::reply_properties(reply, settings().amqp.reply_expiration.as_millis()).unwrap()
}

/// The headers of a reply as they stand in an example.
fn headers(refusal: Option<Refusal>) -> Value {
    let properties = published(&reply(refusal));
    let mut read = Map::new();
    for (name, value) in properties.headers().as_ref().unwrap().inner() {
        let value = match value {
            AMQPValue::LongString(text) => text.to_string().into(),
            AMQPValue::Boolean(value) => (*value).into(),
            AMQPValue::LongLongInt(number) => (*number).into(),
            other => panic!("{name} is {other:?}"),
        };
        read.insert(name.to_string(), value);
    }
    Value::Object(read)
}

fn check_example(document: &Document, message: &str, name: &str, example: &Value, made: &Value) {
    let complaints = document.complaints(&format!("{message}/headers"), &example["headers"]);
    assert!(complaints.is_empty(), "{name}: {complaints:?}");
    assert!(document.complaints(&format!("{message}/payload"), &example["payload"]).is_empty(), "{name}");
    assert_eq!(&example["headers"], made, "{name}");
}

#[test]
fn every_ack_example_is_what_the_service_publishes() {
    let document = Document::asyncapi();
    for (name, example) in document.examples(&format!("{ACK}/examples")) {
        check_example(&document, ACK, &name, example, &headers(None));
    }
}

#[test]
fn every_refusal_of_the_service_is_an_example_and_every_example_is_one() {
    let document = Document::asyncapi();
    let examples = document.examples(&format!("{NACK}/examples"));
    let refusals = refusals(&document);
    let names = |names: Vec<&String>| names.into_iter().cloned().collect::<BTreeSet<_>>();
    assert_eq!(
        names(examples.iter().map(|(name, _)| name).collect()),
        names(refusals.iter().map(|(name, _)| name).collect())
    );
    assert_eq!(examples.len(), refusals.len(), "each name stands once");
    for (name, example) in examples {
        let (_, refusal) = refusals.iter().find(|(situation, _)| *situation == name).unwrap();
        check_example(&document, NACK, &name, example, &headers(Some(refusal.clone())));
    }
}

#[test]
fn a_reply_has_the_key_and_the_life_that_the_contract_says_and_nothing_else() {
    let document = Document::asyncapi();
    let reply = reply(None);
    assert_eq!(wire::reply_key(&reply).unwrap().as_str(), "reply.c-1");
    let binding = document.at("/channels/replyQueue/bindings/amqp/queue/x-binding-key").as_str().unwrap();
    assert_eq!(binding.strip_suffix('*'), Some("reply."));
    let properties = published(&reply);
    let life = document.at("/operations/answerChunk/bindings/amqp/expiration").to_string();
    assert_eq!(properties.expiration().as_ref().unwrap().as_str(), life);
    let rest = properties.with_headers(Default::default()).with_expiration("".into());
    let bare = BasicProperties::default().with_headers(Default::default()).with_expiration("".into());
    assert_eq!(rest, bare);
}

/// A row of the table of reasons.
struct Row {
    patterns: Vec<String>,
    retryable: bool,
    expected: bool,
}

fn rows() -> Vec<Row> {
    let table = PROTOCOL.split("| `x-error` | retryable |").nth(1).expect("the table of reasons");
    let lines = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    let row = |line: &str| {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let patterns = cells[1].split('`').skip(1).step_by(2);
        Row {
            patterns: patterns.map(|pattern| pattern.replace("a string", "<type>")).collect(),
            retryable: cells[2] == "yes",
            expected: cells[3] == "yes",
        }
    };
    lines.map(row).collect()
}

/// Whether a text begins as a pattern says; `<anything>` in it stands for any text.
fn begins_as(text: &str, pattern: &str) -> bool {
    let mut rest = text;
    for (place, part) in pattern.split('<').enumerate() {
        let part = if place == 0 { part } else { part.split_once('>').map_or(part, |(_, after)| after) };
        let found = rest.find(part).filter(|at| place > 0 || *at == 0);
        let Some(at) = found else { return false };
        rest = &rest[at + part.len()..];
    }
    true
}

fn is_told_by(refusal: &Refusal, row: &Row, patterns: &[String]) -> bool {
    row.retryable == refusal.retryable
        && row.expected == refusal.expected.is_some()
        && patterns.iter().any(|pattern| begins_as(&refusal.reason, pattern))
}

#[test]
fn the_table_of_reasons_and_the_refusals_of_the_service_are_the_same() {
    let (rows, refusals) = (rows(), refusals(&Document::asyncapi()));
    assert!(rows.len() > 20, "the table was not found: {}", rows.len());
    for (name, refusal) in &refusals {
        let told = rows.iter().any(|row| is_told_by(refusal, row, &row.patterns));
        assert!(told, "the table does not know {name}: {}", refusal.reason);
    }
    for row in rows {
        let first = &row.patterns[..1];
        let met = refusals.iter().any(|(_, refusal)| is_told_by(refusal, &row, first));
        assert!(met, "no refusal is {}", first[0]);
    }
}

#[test]
fn patterns_with_gaps_match_only_their_texts() {
    assert!(begins_as("chunk starts at byte 7, expected 3", "chunk starts at byte <n>, expected <m>"));
    assert!(begins_as("upload has failed: why", "upload has failed"));
    assert!(!begins_as("the upload has failed", "upload has failed"));
    assert!(!begins_as("chunk starts at byte 7", "chunk starts at byte <n>, expected <m>"));
}
