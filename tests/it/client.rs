//! A client of the queue: publishes chunks as gateway does and waits for their replies.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, ExchangeDeclareOptions, QueueBindOptions,
    QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, ExchangeKind};
use tokio::sync::oneshot;
use uuid::Uuid;

use crate::world::Upload;

/// A chunk's answer has this long: well above the service's own deadline.
const REPLY_WITHIN: Duration = Duration::from_secs(60);

pub struct Client {
    _connection: Connection,
    channel: Channel,
    waiting: Mutex<HashMap<String, oneshot::Sender<Answer>>>,
    /// Replies by correlation id, in the order they came.
    pub seen: Mutex<Vec<(String, Answer)>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub status: String,
    pub error: Option<String>,
    pub expected: Option<i64>,
    pub retryable: Option<bool>,
}

impl Answer {
    pub fn is_ack(&self) -> bool {
        self.status == "ack" && self.error.is_none()
    }

    /// The reason of a `nack`.
    pub fn reason(&self) -> &str {
        assert_eq!(self.status, "nack", "{self:?}");
        self.error.as_deref().unwrap_or_default()
    }
}

impl Client {
    pub async fn connect(amqp_url: &str) -> Arc<Self> {
        let connection = Connection::connect(amqp_url, ConnectionProperties::default()).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        declare(&channel).await;
        let replies = channel
            .basic_consume(
                "chunk-reply".into(),
                "test".into(),
                BasicConsumeOptions::default(),
                FieldTable::default(),
            )
            .await
            .unwrap();
        let client = Arc::new(Client {
            _connection: connection,
            channel,
            waiting: Mutex::default(),
            seen: Mutex::default(),
        });
        tokio::spawn(listen(Arc::downgrade(&client), replies));
        client
    }

    /// Publishes any headers and body.
    pub async fn publish(&self, headers: FieldTable, body: &[u8]) {
        let key = format!("chunk.{}", Uuid::new_v4());
        let properties = BasicProperties::default().with_headers(headers);
        self.channel
            .basic_publish(
                "chunk-exchange".into(),
                key.into(),
                BasicPublishOptions::default(),
                body,
                properties,
            )
            .await
            .unwrap();
    }

    /// Publishes a chunk and hands out its answer.
    pub async fn begin(&self, session: &str, start: i64, body: &[u8]) -> oneshot::Receiver<Answer> {
        let correlation = Uuid::new_v4().to_string();
        let answer = self.expect(&correlation);
        self.publish(headers(session, start, body.len() as i64, &correlation), body).await;
        answer
    }

    /// Registers for the reply to a correlation id.
    pub fn expect(&self, correlation: &str) -> oneshot::Receiver<Answer> {
        let (sender, receiver) = oneshot::channel();
        self.waiting.lock().unwrap().insert(correlation.to_owned(), sender);
        receiver
    }

    /// Publishes a chunk and waits for its answer.
    pub async fn send(&self, upload: &Upload, start: usize, body: &[u8]) -> Answer {
        answer(self.begin(&upload.session.to_string(), start as i64, body).await).await
    }

    /// Sends a whole file, one chunk in flight, every one of them acked.
    pub async fn upload(&self, upload: &Upload, file: &[u8], chunk: usize) {
        self.upload_range(upload, file, chunk, 0, file.len()).await;
    }

    pub async fn upload_range(&self, upload: &Upload, file: &[u8], chunk: usize, from: usize, to: usize) {
        let mut start = from;
        while start < to {
            let end = (start + chunk).min(to);
            let answer = self.send(upload, start, &file[start..end]).await;
            assert!(answer.is_ack(), "chunk at {start}: {answer:?}");
            start = end;
        }
    }
}

/// Waits for an answer, with a deadline.
pub async fn answer(receiver: oneshot::Receiver<Answer>) -> Answer {
    tokio::time::timeout(REPLY_WITHIN, receiver).await.expect("no reply within a minute").unwrap()
}

/// A chunk's headers, numbers as the largest type; `broker.rs` covers the others.
pub fn headers(session: &str, start: i64, size: i64, correlation: &str) -> FieldTable {
    let mut table = FieldTable::default();
    table.insert("x-session-id".into(), AMQPValue::LongString(session.into()));
    table.insert("x-start-byte".into(), AMQPValue::LongLongInt(start));
    table.insert("x-size".into(), AMQPValue::LongLongInt(size));
    table.insert("x-correlation-id".into(), AMQPValue::LongString(correlation.into()));
    table
}

async fn declare(channel: &Channel) {
    let table = FieldTable::default;
    let exchange = ExchangeDeclareOptions::default();
    channel.exchange_declare("chunk-exchange".into(), ExchangeKind::Topic, exchange, table()).await.unwrap();
    for (queue, key) in [("chunk-upload", "chunk.*"), ("chunk-reply", "reply.*")] {
        channel.queue_declare(queue.into(), QueueDeclareOptions::default(), table()).await.unwrap();
        let bind = QueueBindOptions::default();
        channel.queue_bind(queue.into(), "chunk-exchange".into(), key.into(), bind, table()).await.unwrap();
    }
}

async fn listen(client: std::sync::Weak<Client>, mut replies: lapin::Consumer) {
    while let Some(Ok(delivery)) = replies.next().await {
        let Some(client) = client.upgrade() else {
            return;
        };
        let table = delivery.properties.headers().clone().unwrap_or_default();
        let text = |name: &str| match table.inner().get(name) {
            Some(AMQPValue::LongString(text)) => Some(String::from_utf8_lossy(text.as_bytes()).into_owned()),
            _ => None,
        };
        let answer = Answer {
            status: text("x-status").unwrap_or_default(),
            error: text("x-error"),
            expected: match table.inner().get("x-expected-byte") {
                Some(AMQPValue::LongLongInt(byte)) => Some(*byte),
                _ => None,
            },
            retryable: match table.inner().get("x-retryable") {
                Some(AMQPValue::Boolean(retryable)) => Some(*retryable),
                _ => None,
            },
        };
        let correlation = text("x-correlation-id").unwrap_or_default();
        client.seen.lock().unwrap().push((correlation.clone(), answer.clone()));
        if let Some(waiting) = client.waiting.lock().unwrap().remove(&correlation) {
            let _ = waiting.send(answer);
        }
        delivery.ack(BasicAckOptions::default()).await.unwrap();
    }
}
