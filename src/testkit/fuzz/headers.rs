//! Header tables as they stand on the wire.

use bytes::Bytes;

use crate::domain::chunk::{self, Chunk, Defect, Field, RawDelivery};
use crate::domain::ids::CorrelationId;
use crate::domain::session::Refusal;
use crate::gateways::broker::wire;
use crate::ticket::Reply;

/// Largest chunk.
const MAX_BYTES: u32 = 4096;
/// A reason goes into a header; a number in it may have some 800 digits.
const MAX_REASON: usize = 1024;

/// Input: one byte for the body, then a header table. The body is as long as `x-size` says, or as the byte says.
pub fn headers(data: &[u8]) {
    let Some((body, table)) = data.split_first() else { return };
    let Some(raw) = wire::raw_delivery_of(table, Bytes::new()) else { return };
    let length = match raw.headers.size {
        Field::Integer(size) if *body == 0 => usize::try_from(size).unwrap_or(0).min(2 * MAX_BYTES as usize),
        _ => usize::from(*body),
    };
    let raw = RawDelivery { body: vec![7; length].into(), ..raw };
    match chunk::parse(raw.clone(), MAX_BYTES) {
        Ok(chunk) => is_a_chunk(&chunk, &raw),
        Err(Defect::Refused { correlation, reason }) => {
            is_one_line(&reason);
            can_be_answered(Reply { correlation, refusal: Some(Refusal::malformed(reason)) });
        }
        Err(Defect::Unanswerable { reason }) => {
            is_one_line(&reason);
            let readable =
                matches!(&raw.headers.correlation, Field::Text(text) if CorrelationId::parse(text).is_some());
            assert!(!readable, "somebody could have been told: {reason}");
        }
    }
}

fn is_a_chunk(chunk: &Chunk, raw: &RawDelivery) {
    let facts = chunk.facts;
    assert_eq!((facts.size as usize, &chunk.body), (raw.body.len(), &raw.body));
    assert!(
        facts.start >= 0 && (1..=MAX_BYTES).contains(&facts.size) && facts.end() > facts.start,
        "{facts:?}"
    );
    let Field::Text(session) = &raw.headers.session else { panic!("a chunk without a session: {raw:?}") };
    assert!(session.eq_ignore_ascii_case(facts.session.to_string().as_bytes()), "{raw:?}");
    can_be_answered(Reply { correlation: chunk.correlation.clone(), refusal: None });
}

fn can_be_answered(reply: Reply) {
    assert!(wire::reply_key(&reply).is_ok(), "{reply:?}");
    assert!(wire::reply_properties(&reply, 60_000).is_ok(), "{reply:?}");
}

fn is_one_line(reason: &str) {
    assert!(reason.len() <= MAX_REASON && !reason.contains(char::is_control), "{reason:?}");
}
