//! What a delivery says it is, and whether that can be true.

use bytes::Bytes;

use super::ids::{CorrelationId, SessionId};
use super::trace::TraceParent;

/// The header that names the upload session.
pub const SESSION_ID: &str = "x-session-id";
/// The header with the offset of the chunk's first byte.
pub const START_BYTE: &str = "x-start-byte";
/// The header with the number of bytes in the chunk.
pub const SIZE: &str = "x-size";
/// The header that identifies the reply.
pub const CORRELATION_ID: &str = "x-correlation-id";

/// One header as it came off the wire, reduced to what can matter here.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Field {
    /// The header is not there.
    #[default]
    Absent,
    /// A long string, not yet checked to be text.
    Text(Vec<u8>),
    /// Any integral AMQP type.
    Integer(i64),
    /// A float or double.
    Real(f64),
    /// Another AMQP type, by its name.
    Other(&'static str),
}

/// The four headers of a chunk.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Headers {
    /// `x-session-id`
    pub session: Field,
    /// `x-start-byte`
    pub start: Field,
    /// `x-size`
    pub size: Field,
    /// `x-correlation-id`
    pub correlation: Field,
}

/// A delivery before anybody looked into it.
#[derive(Debug, Clone, Default)]
pub struct RawDelivery {
    /// Its headers.
    pub headers: Headers,
    /// Its bytes.
    pub body: Bytes,
    /// The span that its sender works in, if it says so.
    pub trace: Option<TraceParent>,
}

/// What identifies a chunk's content: a second chunk with the same facts is the same chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ChunkFacts {
    /// The session it belongs to.
    pub session: SessionId,
    /// Offset of its first byte in the file.
    pub start: i64,
    /// Its bytes.
    pub size: u32,
    /// XXH3-128 of its bytes.
    pub digest: u128,
}

impl ChunkFacts {
    /// The offset after its last byte.
    pub fn end(&self) -> i64 {
        self.start + i64::from(self.size)
    }
}

/// A chunk whose headers and body agree. Whether it fits its session is for `session::decide` to say.
#[derive(Debug, Clone)]
pub struct Chunk {
    /// What it claims, checked against its body.
    pub facts: ChunkFacts,
    /// Where its answer goes.
    pub correlation: CorrelationId,
    /// Its bytes.
    pub body: Bytes,
}

/// Why a delivery is no chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Defect {
    /// Nobody can be told: reject without requeue.
    Unanswerable {
        /// For the log.
        reason: String,
    },
    /// The sender gets a `nack` with the reason.
    Refused {
        /// Where the answer goes.
        correlation: CorrelationId,
        /// For the sender.
        reason: String,
    },
}

/// Checks a delivery's headers against each other and its body; `max_bytes` bounds the body.
pub fn parse(raw: RawDelivery, max_bytes: u32) -> Result<Chunk, Defect> {
    let Field::Text(correlation) = &raw.headers.correlation else {
        return Err(Defect::Unanswerable {
            reason: complaint(CORRELATION_ID, &raw.headers.correlation, "a string"),
        });
    };
    let Some(correlation) = CorrelationId::parse(correlation) else {
        let reason = format!("{CORRELATION_ID} is not text of 1 to {} bytes", CorrelationId::MAX_BYTES);
        return Err(Defect::Unanswerable { reason });
    };
    match facts(&raw, max_bytes) {
        Ok(facts) => Ok(Chunk { facts, correlation, body: raw.body }),
        Err(reason) => Err(Defect::Refused { correlation, reason }),
    }
}

fn facts(raw: &RawDelivery, max_bytes: u32) -> Result<ChunkFacts, String> {
    let session = session_id(&raw.headers.session)?;
    let start = integral(START_BYTE, &raw.headers.start)?;
    let size = integral(SIZE, &raw.headers.size)?;
    if start < 0 {
        return Err(format!("{START_BYTE} is {start}, expected 0 or more"));
    }
    if size < 1 || size > i64::from(max_bytes) {
        return Err(format!("{SIZE} is {size}, expected 1 to {max_bytes}"));
    }
    if raw.body.len() as u64 != size as u64 {
        return Err(format!("{SIZE} is {size}, but the body has {} bytes", raw.body.len()));
    }
    if start.checked_add(size).is_none() {
        return Err(format!("{START_BYTE} {start} is beyond any file"));
    }
    Ok(ChunkFacts { session, start, size: size as u32, digest: digest(&raw.body) })
}

/// XXH3-128: tells chunks apart that begin and end alike.
pub fn digest(bytes: &[u8]) -> u128 {
    xxhash_rust::xxh3::xxh3_128(bytes)
}

fn session_id(field: &Field) -> Result<SessionId, String> {
    let Field::Text(text) = field else {
        return Err(complaint(SESSION_ID, field, "a string"));
    };
    SessionId::parse(text).ok_or_else(|| format!("{SESSION_ID} is not a UUID"))
}

/// Any number with an integral value counts, whatever AMQP type carried it.
fn integral(name: &str, field: &Field) -> Result<i64, String> {
    /// Beyond 2^53 a double no longer tells neighbouring integers apart.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    match field {
        Field::Integer(value) => Ok(*value),
        Field::Real(value) if value.fract() == 0.0 && value.abs() <= EXACT => Ok(*value as i64),
        Field::Real(value) => Err(format!("{name} is {value}, expected an integral number")),
        Field::Absent | Field::Text(_) | Field::Other(_) => Err(complaint(name, field, "a number")),
    }
}

fn complaint(name: &str, field: &Field, expected: &str) -> String {
    let found = match field {
        Field::Absent => return format!("{name} is missing, expected {expected}"),
        Field::Text(_) => "a string",
        Field::Integer(_) | Field::Real(_) => "a number",
        Field::Other(kind) => kind,
    };
    format!("{name} is {found}, expected {expected}")
}

#[cfg(test)]
mod tests;
