//! The broker: declares the topology, publishes chunks, hands replies to who awaits them.

use std::time::Duration;

use anyhow::{Context, bail};
use futures_util::StreamExt;
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicNackOptions, BasicPublishOptions, ExchangeDeclareOptions,
    QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, Consumer, ExchangeKind};
use tokio::sync::watch;

use super::headers::ChunkHeaders;
use super::replies::{Awaited, Replies, Reply};

const EXCHANGE: &str = "chunk-exchange";
const UPLOAD_QUEUE: &str = "chunk-upload";
const REPLY_QUEUE: &str = "chunk-reply";

const CONNECT_DEADLINE: Duration = Duration::from_secs(10);
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// A connection may die without ending its consumer; its state is looked at this often.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// The way to the broker, which may be broken at the moment.
pub(super) struct Broker {
    channel: watch::Receiver<Option<Channel>>,
    replies: Replies,
}

/// One connection with its consumer of replies.
struct Line {
    connection: Connection,
    channel: Channel,
    consumer: Consumer,
}

impl Broker {
    /// Connects, declares and consumes; in the kind mode keeps doing so whenever the connection is lost.
    ///
    /// # Errors
    /// When the first connection fails.
    pub(super) async fn start(url: &str, as_observed: bool) -> anyhow::Result<Self> {
        let line = open(url).await?;
        let replies = Replies::default();
        let (tell, channel) = watch::channel(Some(line.channel.clone()));
        let url = url.to_owned();
        let known = replies.clone();
        actix_web::rt::spawn(async move {
            if as_observed {
                consume(line, &known, true).await;
                tracing::error!("the broker is lost, and is not connected to again");
            } else {
                keep_connected(&url, line, &known, &tell).await;
            }
        });
        Ok(Self { channel, replies })
    }

    /// Publishes a chunk and gives what its reply will arrive at; waits for a connection, so give it a deadline.
    ///
    /// # Errors
    /// When the broker refuses the chunk or is lost while it is sent.
    pub(super) async fn publish(&self, headers: &ChunkHeaders, body: &[u8]) -> anyhow::Result<Awaited> {
        let mut channels = self.channel.clone();
        let channel = channels.wait_for(Option::is_some).await?.clone().context("no channel")?;
        let awaited = self.replies.register(&headers.correlation_id);
        let key = format!("chunk.{}", headers.correlation_id);
        let properties = BasicProperties::default().with_headers(headers.table());
        channel
            .basic_publish(EXCHANGE.into(), key.into(), BasicPublishOptions::default(), body, properties)
            .await
            .context("publishing")?;
        Ok(awaited)
    }
}

/// Consumes replies and connects again after each loss; ends when the gateway does.
async fn keep_connected(url: &str, first: Line, replies: &Replies, tell: &watch::Sender<Option<Channel>>) {
    let mut line = first;
    loop {
        consume(line, replies, false).await;
        tell.send_replace(None);
        tracing::warn!("the broker is lost");
        line = reopen(url).await;
        tracing::info!("the broker is back");
        tell.send_replace(Some(line.channel.clone()));
    }
}

/// Tries until it succeeds: a gateway without its broker has nothing else to do.
async fn reopen(url: &str) -> Line {
    let mut pause = FIRST_PAUSE;
    loop {
        tokio::time::sleep(pause).await;
        match open(url).await {
            Ok(line) => return line,
            Err(error) => tracing::warn!(error = format!("{error:#}"), "the broker is not back yet"),
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

async fn open(url: &str) -> anyhow::Result<Line> {
    let opening = async {
        let connection = Connection::connect(url, ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        declare(&channel).await?;
        let consumer = channel
            .basic_consume(
                REPLY_QUEUE.into(),
                "".into(),
                BasicConsumeOptions::default(),
                FieldTable::default(),
            )
            .await?;
        anyhow::Ok(Line { connection, channel, consumer })
    };
    match tokio::time::timeout(CONNECT_DEADLINE, opening).await {
        Ok(line) => line,
        Err(_) => bail!("no connection within {CONNECT_DEADLINE:?}"),
    }
}

/// The topology of the contract, with exactly these flags.
async fn declare(channel: &Channel) -> lapin::Result<()> {
    channel
        .exchange_declare(
            EXCHANGE.into(),
            ExchangeKind::Topic,
            ExchangeDeclareOptions::default(),
            FieldTable::default(),
        )
        .await?;
    for (queue, key) in [(UPLOAD_QUEUE, "chunk.*"), (REPLY_QUEUE, "reply.*")] {
        channel.queue_declare(queue.into(), QueueDeclareOptions::default(), FieldTable::default()).await?;
        channel
            .queue_bind(
                queue.into(),
                EXCHANGE.into(),
                key.into(),
                QueueBindOptions::default(),
                FieldTable::default(),
            )
            .await?;
    }
    Ok(())
}

/// Handles replies until the connection or its consumer is lost.
async fn consume(mut line: Line, replies: &Replies, as_observed: bool) {
    let mut look = tokio::time::interval(LOOK_INTERVAL);
    loop {
        let delivery = tokio::select! {
            delivery = line.consumer.next() => delivery,
            _ = look.tick() => {
                if line.connection.status().connected() && line.channel.status().connected() {
                    continue;
                }
                return;
            }
        };
        let handled = match delivery {
            Some(Ok(delivery)) => handle(&delivery, replies, as_observed).await,
            Some(Err(error)) => Err(error),
            None => return,
        };
        if let Err(error) = handled {
            tracing::warn!(%error, "the consumer of replies has failed");
            return;
        }
    }
}

async fn handle(delivery: &Delivery, replies: &Replies, as_observed: bool) -> lapin::Result<()> {
    let known = match read(delivery.properties.headers().as_ref()) {
        Some((correlation_id, reply)) => replies.settle(&correlation_id, reply),
        None => false,
    };
    let done = if known || !as_observed {
        delivery.acker.ack(BasicAckOptions::default()).await
    } else {
        delivery.acker.nack(BasicNackOptions { requeue: true, ..Default::default() }).await
    };
    done.map(drop)
}

/// The correlation id and the reply; `None` when the headers are none of a reply.
fn read(headers: Option<&FieldTable>) -> Option<(String, Reply)> {
    let text = |name: &str| match headers?.inner().get(name)? {
        AMQPValue::LongString(value) => Some(value.to_string()),
        _ => None,
    };
    let reply = match text("x-status")?.as_str() {
        "ack" => Reply::Ack,
        "nack" => Reply::Nack(text("x-error").unwrap_or_default()),
        _ => return None,
    };
    Some((text("x-correlation-id")?, reply))
}
