//! The other end of the contract: chunks out, replies in. What gateway does, for one file at a time.
//!
//! Replies come to a queue of its own, which the broker removes with the connection. Its correlation ids have two words,
//! `send.<uuid>`: the shared reply queue is bound with `reply.*`, one word, and never gets them.

use std::time::Duration;

use futures_util::StreamExt;
use lapin::options::{BasicConsumeOptions, BasicPublishOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable, LongString};
use lapin::{BasicProperties, Channel, Connection, Consumer};
use uuid::Uuid;

use super::BrokerError;
use super::connection::{LapinBroker, declare, in_time};
use super::wire::{ERROR, EXPECTED_BYTE, RETRYABLE, STATUS, short, sorted};
use crate::config::AmqpConfig;
use crate::domain::chunk::{CORRELATION_ID, SESSION_ID, SIZE, START_BYTE};
use crate::domain::ids::SessionId;

/// The first word of its correlation ids.
const WORD: &str = "send.";
/// How often a silent connection is looked at: its end is sometimes reported by nobody.
const LOOK: Duration = Duration::from_secs(1);

/// A chunk on its way out.
#[derive(Debug, Clone, Copy)]
pub struct Outgoing<'a> {
    /// The upload it belongs to.
    pub session: SessionId,
    /// Offset of its first byte in the file.
    pub start: i64,
    /// What its answer is known by.
    pub id: Uuid,
    /// Its bytes.
    pub body: &'a [u8],
}

/// What was answered to a chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is stored.
    Ack,
    /// It is not.
    Nack {
        /// Why, for people.
        reason: String,
        /// The offset that would have been taken, if that was the matter.
        expected: Option<i64>,
        /// Whether the same chunk may be taken later.
        retryable: bool,
    },
}

/// A connection that sends chunks and hears what becomes of them. Lost, it is replaced; it does not recover by itself.
pub struct ChunkSender {
    connection: Connection,
    channel: Channel,
    replies: Consumer,
    exchange: String,
}

impl ChunkSender {
    /// Connects, declares the topology as the service does, and listens for replies.
    ///
    /// # Errors
    /// [`BrokerError`]; each step has a deadline.
    pub async fn open(config: &AmqpConfig, name: &str) -> Result<Self, BrokerError> {
        let connection = LapinBroker::new(config.clone(), name).open("chunks").await?;
        let channel = in_time(connection.create_channel()).await?;
        declare(&channel, config).await?;
        let replies = listen(&channel, config).await?;
        Ok(ChunkSender { connection, channel, replies, exchange: config.exchange.clone() })
    }

    /// Sends one chunk, in the form of gateway: nothing but headers, numbers in their smallest type.
    ///
    /// # Errors
    /// [`BrokerError`]: this connection is of no use any more, and whether the chunk has arrived is unknown.
    pub async fn send(&self, chunk: &Outgoing<'_>) -> Result<(), BrokerError> {
        let key = short(&format!("chunk.{}", chunk.id.hyphenated()))?;
        let properties = BasicProperties::default().with_headers(headers(chunk)?);
        let options = BasicPublishOptions::default();
        let publish =
            self.channel.basic_publish(short(&self.exchange)?, key, options, chunk.body, properties);
        match in_time(publish).await {
            Ok(_) => Ok(()),
            Err(_) if self.connection.status().blocked() => {
                Err(BrokerError::Lost("the broker is under alarm and takes no chunks".into()))
            }
            Err(error) => Err(error),
        }
    }

    /// The next answer, by the id of its chunk. Cancel-safe.
    ///
    /// # Errors
    /// The connection is lost, and every answer that has not come with it.
    pub async fn answer(&mut self) -> Result<(Uuid, Verdict), BrokerError> {
        loop {
            match tokio::time::timeout(LOOK, self.replies.next()).await {
                Ok(Some(Ok(reply))) => {
                    if let Some(answer) = reply.properties.headers().as_ref().and_then(read) {
                        return Ok(answer);
                    }
                }
                Ok(Some(Err(error))) => return Err(sorted(&error)),
                Ok(None) => return Err(BrokerError::Lost("the broker ended the replies".into())),
                Err(_) if self.is_connected() => {}
                Err(_) => return Err(BrokerError::Lost("the connection ended without a word".into())),
            }
        }
    }

    fn is_connected(&self) -> bool {
        self.connection.status().connected() && self.channel.status().connected()
    }

    /// Closes the connection in good order, within a deadline.
    pub async fn close(self) {
        const REPLY_SUCCESS: u16 = 200;
        if let Ok(farewell) = short("OK") {
            // What cannot be closed in good order is closed by its end.
            let _ = tokio::time::timeout(LOOK, self.connection.close(REPLY_SUCCESS, farewell)).await;
        }
    }
}

/// A queue that only this connection sees, for the replies to its own chunks.
async fn listen(channel: &Channel, config: &AmqpConfig) -> Result<Consumer, BrokerError> {
    let own = QueueDeclareOptions { exclusive: true, auto_delete: true, ..QueueDeclareOptions::default() };
    let queue = in_time(channel.queue_declare(short("")?, own, FieldTable::default())).await?;
    let (name, exchange) = (queue.name().clone(), short(&config.exchange)?);
    let key = short(&format!("reply.{WORD}*"))?;
    let bind =
        channel.queue_bind(name.clone(), exchange, key, QueueBindOptions::default(), FieldTable::default());
    in_time(bind).await?;
    let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
    in_time(channel.basic_consume(name, short("")?, options, FieldTable::default())).await
}

fn headers(chunk: &Outgoing<'_>) -> Result<FieldTable, BrokerError> {
    let text = |text: &str| AMQPValue::LongString(LongString::from(text));
    let size = i64::try_from(chunk.body.len()).unwrap_or(i64::MAX);
    let mut table = FieldTable::default();
    table.insert(short(SESSION_ID)?, text(&chunk.session.to_string()));
    table.insert(short(START_BYTE)?, number(chunk.start));
    table.insert(short(SIZE)?, number(size));
    table.insert(short(CORRELATION_ID)?, text(&format!("{WORD}{}", chunk.id.hyphenated())));
    Ok(table)
}

/// The smallest AMQP type that holds the number, as gateway's encoder picks it.
fn number(value: i64) -> AMQPValue {
    if let Ok(value) = i8::try_from(value) {
        return AMQPValue::ShortShortInt(value);
    }
    if let Ok(value) = i16::try_from(value) {
        return AMQPValue::ShortInt(value);
    }
    match i32::try_from(value) {
        Ok(value) => AMQPValue::LongInt(value),
        Err(_) => AMQPValue::LongLongInt(value),
    }
}

/// A reply to one of its own chunks; `None` for anything else.
fn read(table: &FieldTable) -> Option<(Uuid, Verdict)> {
    let text = |name: &str| match table.inner().get(name)? {
        AMQPValue::LongString(text) => Some(text.to_string()),
        _ => None,
    };
    let id = Uuid::parse_str(text(CORRELATION_ID)?.strip_prefix(WORD)?).ok()?;
    let verdict = match text(STATUS)?.as_str() {
        "ack" => Verdict::Ack,
        "nack" => Verdict::Nack {
            reason: text(ERROR).unwrap_or_else(|| "refused without a reason".to_owned()),
            expected: match table.inner().get(EXPECTED_BYTE) {
                Some(AMQPValue::LongLongInt(byte)) => Some(*byte),
                _ => None,
            },
            retryable: table.inner().get(RETRYABLE) == Some(&AMQPValue::Boolean(true)),
        },
        _ => return None,
    };
    Some((id, verdict))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use lapin::types::parsing::parse_field_table;

    use super::super::wire::reply_properties;
    use super::*;
    use crate::domain::ids::CorrelationId;
    use crate::domain::session::{Refusal, RefusalKind};
    use crate::ticket::Reply;

    #[derive(serde::Deserialize)]
    struct Vector {
        name: String,
        table_hex: String,
    }

    fn decode(hex: &str) -> FieldTable {
        let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        let bytes: Vec<u8> = (0..hex.len()).step_by(2).map(byte).collect();
        parse_field_table(bytes.as_slice()).unwrap().1
    }

    fn whole(value: Option<&AMQPValue>) -> Option<i64> {
        match value? {
            AMQPValue::ShortShortInt(value) => Some(i64::from(*value)),
            AMQPValue::ShortInt(value) => Some(i64::from(*value)),
            AMQPValue::LongInt(value) => Some(i64::from(*value)),
            AMQPValue::LongLongInt(value) => Some(*value),
            _ => None,
        }
    }

    #[test]
    fn numbers_have_the_types_of_the_existing_encoder() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/chunk-headers.json");
        let vectors: Vec<Vector> = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let mut compared = 0;
        for vector in vectors {
            let table = decode(&vector.table_hex);
            for name in [START_BYTE, SIZE] {
                let recorded = table.inner().get(name);
                if let Some(value) = whole(recorded) {
                    assert_eq!(Some(&number(value)), recorded, "{}: {name}", vector.name);
                    compared += 1;
                }
            }
        }
        assert!(compared >= 12, "only {compared} numbers were compared");
    }

    #[test]
    fn a_chunk_carries_four_headers_and_the_service_can_read_them() {
        let (session, id) = (SessionId(Uuid::from_u128(5)), Uuid::from_u128(6));
        let table = headers(&Outgoing { session, start: 300, id, body: &[0; 200] }).unwrap();
        assert_eq!(table.inner().len(), 4);
        assert_eq!(table.inner().get(START_BYTE), Some(&AMQPValue::ShortInt(300)));
        assert_eq!(table.inner().get(SIZE), Some(&AMQPValue::ShortInt(200)));
        let correlation = format!("send.{id}");
        assert_eq!(
            table.inner().get(CORRELATION_ID),
            Some(&AMQPValue::LongString(correlation.as_str().into()))
        );
        assert!(CorrelationId::parse(correlation.as_bytes()).unwrap().is_private());
    }

    #[test]
    fn what_the_service_replies_is_what_is_read() {
        let id = Uuid::from_u128(6);
        let correlation = CorrelationId::parse(format!("send.{id}").as_bytes()).unwrap();
        let heard = |refusal| {
            let reply = Reply { correlation: correlation.clone(), refusal };
            read(reply_properties(&reply, 60_000).unwrap().headers().as_ref().unwrap())
        };
        assert_eq!(heard(None), Some((id, Verdict::Ack)));
        let refusal =
            Refusal { reason: "no".into(), expected: Some(7), retryable: true, kind: RefusalKind::Offset };
        let nack = Verdict::Nack { reason: "no".into(), expected: Some(7), retryable: true };
        assert_eq!(heard(Some(refusal)), Some((id, nack)));
    }

    #[test]
    fn a_reply_to_somebody_else_is_none_of_its_own() {
        let reply = Reply { correlation: CorrelationId::parse(b"other").unwrap(), refusal: None };
        assert_eq!(read(reply_properties(&reply, 1).unwrap().headers().as_ref().unwrap()), None);
    }
}
