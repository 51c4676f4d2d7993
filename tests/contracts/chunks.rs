//! The chunks of `docs/asyncapi.yaml` go through the service's own decoder; its names are those of the settings.

use std::collections::{BTreeMap, BTreeSet};

use lapin::BasicProperties;
use lapin::message::Delivery;
use lapin::types::{AMQPValue, FieldTable, ShortString};
use serde_json::Value;
use uploader_v4::config::{Config, ConfigSources};
use uploader_v4::domain::chunk::{self, Chunk, Defect, Field, RawDelivery};
use uploader_v4::gateways::broker::wire;

use crate::document::Document;

const CHUNK: &str = "/components/messages/chunk";

pub fn settings() -> Config {
    Config::load(ConfigSources { file: None, env: BTreeMap::new() }).unwrap().0
}

/// As gateway encodes a header: the smallest type that holds a whole number, a double for any other.
fn encoded(value: &Value) -> AMQPValue {
    if let Some(number) = value.as_i64() {
        return match (i8::try_from(number), i16::try_from(number), i32::try_from(number)) {
            (Ok(number), _, _) => AMQPValue::ShortShortInt(number),
            (_, Ok(number), _) => AMQPValue::ShortInt(number),
            (_, _, Ok(number)) => AMQPValue::LongInt(number),
            (Err(_), Err(_), Err(_)) => AMQPValue::LongLongInt(number),
        };
    }
    match value {
        Value::String(text) => AMQPValue::LongString(text.as_str().into()),
        Value::Number(number) => AMQPValue::Double(number.as_f64().unwrap()),
        Value::Bool(value) => AMQPValue::Boolean(*value),
        other => panic!("no header is {other}"),
    }
}

fn name(text: &str) -> ShortString {
    ShortString::try_new(text).unwrap()
}

fn delivery(headers: FieldTable, body: &[u8]) -> RawDelivery {
    let mut delivery = Delivery::mock(1, name("chunk-exchange"), name("chunk.id"), false, body.to_vec());
    delivery.properties = BasicProperties::default().with_headers(headers);
    wire::raw_delivery(delivery)
}

/// What the service makes of an example.
pub fn parsed(example: &Value) -> Result<Chunk, Defect> {
    let mut headers = FieldTable::default();
    for (header, value) in example["headers"].as_object().unwrap() {
        headers.insert(name(header), encoded(value));
    }
    let raw = delivery(headers, example["payload"].as_str().unwrap().as_bytes());
    chunk::parse(raw, settings().chunk.max_bytes.try_into().unwrap())
}

/// Whether headers and payload are as the schemas want them.
fn fits(document: &Document, example: &Value) -> bool {
    document.complaints(&format!("{CHUNK}/headers"), &example["headers"]).is_empty()
        && document.complaints(&format!("{CHUNK}/payload"), &example["payload"]).is_empty()
}

#[test]
fn every_chunk_example_is_a_chunk_with_the_numbers_that_it_says() {
    let document = Document::asyncapi();
    for (name, example) in document.examples(&format!("{CHUNK}/examples")) {
        assert!(fits(&document, example), "{name}");
        let chunk = parsed(example).unwrap_or_else(|defect| panic!("{name}: {defect:?}"));
        let headers = &example["headers"];
        let said = |header: &str| headers[header].as_f64().unwrap();
        assert_eq!(chunk.facts.start as f64, said("x-start-byte"), "{name}");
        assert_eq!(f64::from(chunk.facts.size), said("x-size"), "{name}");
        let session = headers["x-session-id"].as_str().unwrap().to_lowercase();
        assert_eq!(chunk.facts.session.to_string(), session, "{name}");
        assert_eq!(chunk.correlation.as_str(), headers["x-correlation-id"], "{name}");
        assert_eq!(chunk.body, example["payload"].as_str().unwrap().as_bytes(), "{name}");
    }
}

#[test]
fn what_the_schema_refuses_the_service_refuses_too() {
    let document = Document::asyncapi();
    let mut unseen = BTreeSet::new();
    for (name, example) in document.examples(&format!("{CHUNK}/x-refused")) {
        assert!(matches!(parsed(example), Err(Defect::Refused { .. })), "{name}: {:?}", parsed(example));
        if fits(&document, example) {
            unseen.insert(name);
        }
    }
    // A schema sees neither the sum of two numbers nor headers and body together.
    assert_eq!(unseen, ["size is not the body's", "start is beyond any file"].map(str::to_owned).into());
}

#[test]
fn a_chunk_that_nobody_can_be_told_about_is_rejected() {
    let document = Document::asyncapi();
    for (name, example) in document.examples(&format!("{CHUNK}/x-rejected")) {
        assert!(!fits(&document, example), "{name}");
        assert!(matches!(parsed(example), Err(Defect::Unanswerable { .. })), "{name}: {:?}", parsed(example));
    }
}

/// Seven, as each AMQP type that could be taken for a number has it.
fn sevens() -> [(&'static str, AMQPValue); 12] {
    [
        ("b", AMQPValue::ShortShortInt(7)),
        ("B", AMQPValue::ShortShortUInt(7)),
        ("s", AMQPValue::ShortInt(7)),
        ("u", AMQPValue::ShortUInt(7)),
        ("I", AMQPValue::LongInt(7)),
        ("i", AMQPValue::LongUInt(7)),
        ("l", AMQPValue::LongLongInt(7)),
        ("f", AMQPValue::Float(7.0)),
        ("d", AMQPValue::Double(7.0)),
        ("S", AMQPValue::LongString("7".into())),
        ("T", AMQPValue::Timestamp(7)),
        ("t", AMQPValue::Boolean(true)),
    ]
}

#[test]
fn exactly_the_amqp_types_of_the_contract_are_numbers() {
    let document = Document::asyncapi();
    let listed = document.at("/components/schemas/number/x-amqp-types").as_array().unwrap();
    let mut taken = Vec::new();
    for (letter, value) in sevens() {
        let mut headers = FieldTable::default();
        headers.insert(name("x-start-byte"), value);
        match delivery(headers, b"").headers.start {
            Field::Integer(7) => taken.push(letter),
            Field::Real(7.0) => taken.push(letter),
            other => assert!(!listed.contains(&letter.into()), "{letter}: {other:?}"),
        }
    }
    assert_eq!(&taken.into_iter().map(Value::from).collect::<Vec<_>>(), listed);
}

#[test]
fn the_topology_of_the_contract_is_that_of_the_default_settings() {
    let (document, amqp) = (Document::asyncapi(), settings().amqp);
    for (channel, queue) in [("chunkQueue", &amqp.upload_queue), ("replyQueue", &amqp.reply_queue)] {
        let said = document.at(&format!("/channels/{channel}/bindings/amqp/queue"));
        assert_eq!((&said["name"], &said["durable"]), (&queue.as_str().into(), &amqp.durable.into()));
        assert_eq!(said["x-exchange"], amqp.exchange);
        assert_eq!(document.at(&format!("/channels/{channel}/address")), queue.as_str());
    }
    for channel in ["chunks", "replies"] {
        let said = document.at(&format!("/channels/{channel}/bindings/amqp/exchange"));
        assert_eq!((&said["name"], &said["durable"]), (&amqp.exchange.as_str().into(), &amqp.durable.into()));
    }
    let largest = document.at("/components/messages/chunk/payload/maxLength").as_u64();
    assert_eq!(largest, Some(settings().chunk.max_bytes));
}
