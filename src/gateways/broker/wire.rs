//! Headers and replies as AMQP values, and the broker's errors sorted.

use bytes::Bytes;
use lapin::message::Delivery;
use lapin::types::parsing::parse_field_table;
use lapin::types::{AMQPValue, FieldTable, LongString, ShortString};
use lapin::{BasicProperties, ErrorKind};

use super::BrokerError;
use crate::domain::chunk::{CORRELATION_ID, Field, Headers, RawDelivery, SESSION_ID, SIZE, START_BYTE};
use crate::domain::trace::TraceParent;
use crate::gateways::tls;
use crate::ticket::Reply;

/// Where the sender's work belongs in a trace (W3C Trace Context).
const TRACE_PARENT: &str = "traceparent";
/// `ack` or `nack`.
pub(super) const STATUS: &str = "x-status";
/// Why it is a `nack`; a string.
pub(super) const ERROR: &str = "x-error";
/// The offset that would have been taken.
pub(super) const EXPECTED_BYTE: &str = "x-expected-byte";
/// Whether the same chunk may be taken later.
pub(super) const RETRYABLE: &str = "x-retryable";

/// A delivery as the domain sees it. The body is moved, not copied.
pub fn raw_delivery(delivery: Delivery) -> RawDelivery {
    let table = delivery.properties.headers().as_ref();
    let trace = table.and_then(trace);
    RawDelivery { headers: table.map(headers).unwrap_or_default(), body: delivery.data.into(), trace }
}

/// The same from a header table as it stands on the wire, for whoever has no broker; `None` if it is none.
#[doc(hidden)]
pub fn raw_delivery_of(table: &[u8], body: Bytes) -> Option<RawDelivery> {
    let (rest, table) = parse_field_table(table).ok()?;
    rest.is_empty().then(|| RawDelivery { headers: headers(&table), body, trace: trace(&table) })
}

fn headers(table: &FieldTable) -> Headers {
    let field = |name: &str| table.inner().get(name).map_or(Field::Absent, field);
    Headers {
        session: field(SESSION_ID),
        start: field(START_BYTE),
        size: field(SIZE),
        correlation: field(CORRELATION_ID),
    }
}

/// A context that cannot be read is none: it is no part of the chunk.
fn trace(table: &FieldTable) -> Option<TraceParent> {
    match field(table.inner().get(TRACE_PARENT)?) {
        Field::Text(text) => TraceParent::parse(&text),
        Field::Absent | Field::Integer(_) | Field::Real(_) | Field::Other(_) => None,
    }
}

fn field(value: &AMQPValue) -> Field {
    match value {
        AMQPValue::LongString(text) => Field::Text(text.as_bytes().to_vec()),
        AMQPValue::ShortString(text) => Field::Text(text.as_str().as_bytes().to_vec()),
        AMQPValue::ShortShortInt(number) => Field::Integer((*number).into()),
        AMQPValue::ShortShortUInt(number) => Field::Integer((*number).into()),
        AMQPValue::ShortInt(number) => Field::Integer((*number).into()),
        AMQPValue::ShortUInt(number) => Field::Integer((*number).into()),
        AMQPValue::LongInt(number) => Field::Integer((*number).into()),
        AMQPValue::LongUInt(number) => Field::Integer((*number).into()),
        AMQPValue::LongLongInt(number) => Field::Integer(*number),
        AMQPValue::Float(number) => Field::Real((*number).into()),
        AMQPValue::Double(number) => Field::Real(*number),
        AMQPValue::Boolean(_) => Field::Other("a boolean"),
        AMQPValue::DecimalValue(_) => Field::Other("a decimal"),
        AMQPValue::FieldArray(_) => Field::Other("an array"),
        AMQPValue::Timestamp(_) => Field::Other("a timestamp"),
        AMQPValue::FieldTable(_) => Field::Other("a table"),
        AMQPValue::ByteArray(_) => Field::Other("a byte array"),
        AMQPValue::Void => Field::Other("nothing"),
    }
}

/// The routing key of a reply; a correlation id is short enough by its type.
///
/// # Errors
/// `Refused` for a key longer than 255 bytes.
pub fn reply_key(reply: &Reply) -> Result<ShortString, BrokerError> {
    short(&format!("reply.{}", reply.correlation.as_str()))
}

/// A reply's headers and its life in milliseconds.
///
/// # Errors
/// `Refused` for a name longer than 255 bytes.
pub fn reply_properties(reply: &Reply, expiration_ms: u128) -> Result<BasicProperties, BrokerError> {
    let text = |text: &str| AMQPValue::LongString(LongString::from(text));
    let mut table = FieldTable::default();
    let mut put = |name: &str, value| short(name).map(|name| table.insert(name, value)).map(|_| ());
    put(CORRELATION_ID, text(reply.correlation.as_str()))?;
    match &reply.refusal {
        None => put(STATUS, text("ack"))?,
        Some(refusal) => {
            put(STATUS, text("nack"))?;
            put(ERROR, text(&refusal.reason))?;
            put(RETRYABLE, AMQPValue::Boolean(refusal.retryable))?;
            if let Some(expected) = refusal.expected {
                put(EXPECTED_BYTE, AMQPValue::LongLongInt(expected))?;
            }
        }
    }
    let expiration = short(&expiration_ms.to_string())?;
    Ok(BasicProperties::default().with_headers(table).with_expiration(expiration))
}

/// A name of at most 255 bytes.
pub(super) fn short(text: &str) -> Result<ShortString, BrokerError> {
    ShortString::try_new(text).map_err(|_| BrokerError::Refused("a name is longer than 255 bytes".into()))
}

/// Sorts an error of the client. Access denied, a missing vhost and other flags than the existing ones need a human.
pub(super) fn sorted(error: &lapin::Error) -> BrokerError {
    /// invalid-path, access-refused, resource-locked, precondition-failed, not-allowed.
    const REFUSALS: [u16; 5] = [402, 403, 405, 406, 530];
    match error.kind() {
        ErrorKind::ProtocolError(error) if REFUSALS.contains(&error.get_id()) => {
            BrokerError::Refused(error.get_message().to_string())
        }
        _ => BrokerError::Lost(tls::explained(error.to_string())),
    }
}

#[cfg(test)]
mod tests;
