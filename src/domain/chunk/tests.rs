//! Every type that a header can come in, and every way in which headers and body can disagree.
#![allow(clippy::unwrap_used)]

use super::*;

const SESSION: &str = "a48a81da-0c3b-4f0e-9d55-0d6f3c1c2b11";
const MAX: u32 = 1000;

fn text(value: &str) -> Field {
    Field::Text(value.as_bytes().to_vec())
}

/// A sound delivery of 10 bytes, changed by `change`.
fn delivery(change: impl FnOnce(&mut RawDelivery)) -> RawDelivery {
    let headers = Headers {
        session: text(SESSION),
        start: Field::Integer(20),
        size: Field::Integer(10),
        correlation: text("c1"),
    };
    let mut delivery = RawDelivery { headers, body: Bytes::from_static(b"0123456789"), trace: None };
    change(&mut delivery);
    delivery
}

fn refusal(change: impl FnOnce(&mut RawDelivery)) -> String {
    match parse(delivery(change), MAX) {
        Err(Defect::Refused { correlation, reason }) => {
            assert_eq!(correlation.as_str(), "c1");
            reason
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_sound_delivery_becomes_a_chunk() {
    let chunk = parse(delivery(|_| {}), MAX).unwrap();
    assert_eq!((chunk.facts.start, chunk.facts.size, chunk.facts.end()), (20, 10, 30));
    assert_eq!(chunk.facts.session.to_string(), SESSION);
    assert_eq!(chunk.correlation.as_str(), "c1");
    assert_eq!(chunk.facts.digest, xxhash_rust::xxh3::xxh3_128(b"0123456789"));
}

#[test]
fn numbers_count_in_every_type_that_holds_an_integral_value() {
    for start in [Field::Integer(20), Field::Real(20.0)] {
        for size in [Field::Integer(10), Field::Real(10.0)] {
            let headers = |raw: &mut RawDelivery| {
                (raw.headers.start, raw.headers.size) = (start.clone(), size.clone());
            };
            let facts = parse(delivery(headers), MAX).unwrap().facts;
            assert_eq!((facts.start, facts.size), (20, 10));
        }
    }
    let zero = parse(delivery(|raw| raw.headers.start = Field::Real(-0.0)), MAX).unwrap();
    assert_eq!(zero.facts.start, 0);
    let far = parse(delivery(|raw| raw.headers.start = Field::Real(5e12)), MAX).unwrap();
    assert_eq!(far.facts.start, 5_000_000_000_000);
}

#[test]
fn anything_else_in_a_number_is_refused_by_name() {
    let bad = [
        (Field::Absent, "missing"),
        (text("20"), "a string"),
        (Field::Other("a boolean"), "a boolean"),
        (Field::Real(0.5), "0.5"),
        (Field::Real(f64::INFINITY), "inf"),
        (Field::Real(f64::NEG_INFINITY), "inf"),
        (Field::Real(f64::NAN), "NaN"),
        (Field::Real(1e300), "integral"),
        (Field::Integer(-1), "-1"),
        (Field::Integer(i64::MIN), "-9223372036854775808"),
    ];
    for (field, word) in bad {
        let start = refusal(|raw| raw.headers.start = field.clone());
        assert!(start.contains(START_BYTE) && start.contains(word), "{start}");
        let size = refusal(|raw| raw.headers.size = field);
        assert!(size.contains(SIZE) && size.contains(word), "{size}");
    }
}

#[test]
fn a_size_out_of_bounds_or_unlike_the_body_is_refused() {
    for (size, body) in [(0, 0), (1001, 1001), (9, 10), (11, 10), (i64::MAX, 10), (1 << 32, 0), (10, 0)] {
        let reason = refusal(|raw| {
            raw.headers.size = Field::Integer(size);
            raw.body = Bytes::from(vec![0; body]);
        });
        assert!(reason.contains(SIZE), "{reason}");
    }
    let largest = delivery(|raw| {
        raw.headers.size = Field::Integer(i64::from(MAX));
        raw.body = Bytes::from(vec![0; MAX as usize]);
    });
    assert_eq!(parse(largest, MAX).unwrap().facts.size, MAX);
}

#[test]
fn a_start_whose_end_overflows_is_refused() {
    let reason = refusal(|raw| raw.headers.start = Field::Integer(i64::MAX - 5));
    assert!(reason.contains("beyond any file"), "{reason}");
}

#[test]
fn a_session_that_is_no_uuid_is_refused() {
    let bad = [
        Field::Absent,
        text(""),
        text("../../etc/passwd"),
        text(&SESSION.replace('-', "")),
        text(&format!("{{{SESSION}}}")),
        text(&format!("urn:uuid:{SESSION}")),
        text(&format!("{SESSION} ")),
        Field::Text(vec![0xff; 36]),
        Field::Integer(7),
        Field::Other("a table"),
    ];
    for field in bad {
        let shown = format!("{field:?}");
        let reason = refusal(|raw| raw.headers.session = field);
        assert!(reason.contains(SESSION_ID), "{shown}: {reason}");
    }
}

#[test]
fn an_upper_case_session_is_the_same_session() {
    let upper = parse(delivery(|raw| raw.headers.session = text(&SESSION.to_uppercase())), MAX).unwrap();
    assert_eq!(upper.facts.session.to_string(), SESSION);
}

#[test]
fn without_a_readable_correlation_id_nobody_can_be_told() {
    let long = "c".repeat(250);
    let bad = [
        Field::Absent,
        text(""),
        text(&long),
        Field::Text(vec![0xff, 0xfe]),
        Field::Integer(7),
        Field::Real(7.0),
        Field::Other("a boolean"),
    ];
    for field in bad {
        let shown = format!("{field:?}");
        let result = parse(delivery(|raw| raw.headers.correlation = field), MAX);
        assert!(matches!(result, Err(Defect::Unanswerable { .. })), "{shown}: {result:?}");
    }
    let longest = "c".repeat(249);
    let chunk = parse(delivery(|raw| raw.headers.correlation = text(&longest)), MAX).unwrap();
    assert_eq!(chunk.correlation.as_str(), longest);
}

#[test]
fn an_unreadable_correlation_id_outweighs_every_other_defect() {
    let worst = RawDelivery::default();
    assert!(matches!(parse(worst, MAX), Err(Defect::Unanswerable { .. })));
}
