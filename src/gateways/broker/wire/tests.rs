//! Deliveries and replies as they stand on the wire.
#![allow(clippy::unwrap_used)]
use serde::Deserialize;

use super::*;
use crate::domain::chunk::{self, Defect};
use crate::domain::ids::CorrelationId;
use crate::domain::session::{Refusal, RefusalKind};

#[derive(Deserialize)]
struct Vector {
    name: String,
    want: Want,
    table_hex: String,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Want {
    Numbers { start: i64, size: u32 },
    Refuse { refuse: bool },
    Reject { reject: bool },
}

fn bytes_of(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.chars().map(|digit| digit.to_digit(16).unwrap() as u8).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

fn body_for(headers: &Headers) -> Vec<u8> {
    match headers.size {
        Field::Integer(size) => vec![0; usize::try_from(size).unwrap_or(0)],
        _ => vec![0; 1],
    }
}

#[test]
fn headers_as_gateway_encodes_them_come_to_what_the_vectors_say() {
    let vectors: Vec<Vector> =
        serde_json::from_str(include_str!("../../../../tests/vectors/chunk-headers.json")).unwrap();
    assert!(vectors.len() > 15);
    for Vector { name, want, table_hex } in vectors {
        let raw = raw_delivery_of(&bytes_of(&table_hex), Bytes::new()).unwrap();
        let body = body_for(&raw.headers).into();
        let parsed = chunk::parse(RawDelivery { body, ..raw }, 10 << 20);
        match (want, parsed) {
            (Want::Numbers { start, size }, Ok(chunk)) => {
                assert_eq!((chunk.facts.start, chunk.facts.size), (start, size), "{name}");
            }
            (Want::Refuse { refuse: true }, Err(Defect::Refused { .. })) => {}
            (Want::Reject { reject: true }, Err(Defect::Unanswerable { .. })) => {}
            (_, parsed) => panic!("{name}: {parsed:?}"),
        }
    }
}

#[test]
fn every_integral_type_is_a_number() {
    for value in [
        AMQPValue::ShortShortInt(7),
        AMQPValue::ShortShortUInt(7),
        AMQPValue::ShortInt(7),
        AMQPValue::ShortUInt(7),
        AMQPValue::LongInt(7),
        AMQPValue::LongUInt(7),
        AMQPValue::LongLongInt(7),
    ] {
        assert_eq!(field(&value), Field::Integer(7), "{value:?}");
    }
    assert_eq!(field(&AMQPValue::LongUInt(u32::MAX)), Field::Integer(u32::MAX.into()));
    assert_eq!(field(&AMQPValue::ShortShortInt(-128)), Field::Integer(-128));
    assert_eq!(field(&AMQPValue::Float(7.0)), Field::Real(7.0));
    assert_eq!(field(&AMQPValue::Double(7.5)), Field::Real(7.5));
}

#[test]
fn other_types_are_named_and_never_numbers() {
    for value in [
        AMQPValue::Boolean(true),
        AMQPValue::Timestamp(7),
        AMQPValue::Void,
        AMQPValue::ByteArray(vec![7].into()),
        AMQPValue::FieldArray(vec![AMQPValue::LongInt(7)].into()),
        AMQPValue::FieldTable(FieldTable::default()),
    ] {
        assert!(matches!(field(&value), Field::Other(_)), "{value:?}");
    }
}

fn header<'a>(properties: &'a BasicProperties, name: &str) -> Option<&'a AMQPValue> {
    properties.headers().as_ref().and_then(|table| table.inner().get(name))
}

fn correlation() -> CorrelationId {
    CorrelationId::parse(b"c-1").unwrap()
}

#[test]
fn an_ack_says_nothing_but_ack() {
    let properties = reply_properties(&Reply { correlation: correlation(), refusal: None }, 60_000).unwrap();
    let names: Vec<_> =
        properties.headers().as_ref().unwrap().inner().keys().map(|name| name.as_str()).collect();
    assert_eq!(names, ["x-correlation-id", "x-status"]);
    assert_eq!(header(&properties, STATUS), Some(&AMQPValue::LongString("ack".into())));
    assert_eq!(properties.expiration().as_ref().unwrap().as_str(), "60000");
    assert!(properties.correlation_id().is_none() && properties.content_type().is_none());
}

#[test]
fn a_nack_carries_its_reason_as_a_string() {
    let refusal = Refusal {
        reason: "chunk starts at byte 7, expected 3".into(),
        expected: Some(3),
        retryable: true,
        kind: RefusalKind::Offset,
    };
    let reply = Reply { correlation: correlation(), refusal: Some(refusal.clone()) };
    let properties = reply_properties(&reply, 1).unwrap();
    assert_eq!(header(&properties, ERROR), Some(&AMQPValue::LongString(refusal.reason.as_str().into())));
    assert_eq!(header(&properties, EXPECTED_BYTE), Some(&AMQPValue::LongLongInt(3)));
    assert_eq!(header(&properties, RETRYABLE), Some(&AMQPValue::Boolean(true)));
    assert_eq!(reply_key(&reply).unwrap().as_str(), "reply.c-1");
}

#[test]
fn the_longest_correlation_id_fits_its_routing_key() {
    let correlation = CorrelationId::parse(&[b'c'; CorrelationId::MAX_BYTES]).unwrap();
    assert_eq!(reply_key(&Reply { correlation, refusal: None }).unwrap().as_str().len(), 255);
}
