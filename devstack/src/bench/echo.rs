//! What the broker allows: a consumer that does nothing but answer, with the service's topology, prefetch, two
//! connections, headers and publisher confirms. A reply is published at once and the delivery acked on its confirm;
//! none waits for another.

use std::process::ExitCode;

use anyhow::{Context, bail};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, Consumer};

use super::topology::{CHUNKS, EXCHANGE, declare};

/// The life of a reply, in milliseconds, as the service gives it.
const EXPIRATION: &str = "60000";
const CORRELATION_ID: &str = "x-correlation-id";

/// How the echo is told where it works.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The broker, with its vhost
    #[arg(long)]
    amqp: String,
    /// Deliveries held at once
    #[arg(long, default_value = "256")]
    prefetch: u16,
}

/// Answers until it is killed.
pub(crate) async fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let incoming = connect(&options.amqp).await?;
    let outgoing = connect(&options.amqp).await?;
    let deliveries = incoming.create_channel().await?;
    deliveries.basic_qos(options.prefetch, BasicQosOptions::default()).await?;
    let replies = outgoing.create_channel().await?;
    replies.confirm_select(ConfirmSelectOptions::default()).await?;
    declare(&deliveries).await?;
    let consume = BasicConsumeOptions::default();
    let consumer = deliveries.basic_consume(CHUNKS.into(), "".into(), consume, FieldTable::default()).await?;
    answer_all(consumer, &replies).await
}

async fn connect(url: &str) -> anyhow::Result<Connection> {
    Connection::connect(url, ConnectionProperties::default()).await.context("no broker")
}

async fn answer_all(mut consumer: Consumer, replies: &Channel) -> anyhow::Result<ExitCode> {
    let mut answers = FuturesUnordered::new();
    loop {
        tokio::select! {
            delivery = consumer.next() => {
                let delivery = delivery.context("the consumer has ended")??;
                answers.push(answer(replies, delivery));
            }
            Some(answered) = answers.next() => answered?,
        }
    }
}

async fn answer(replies: &Channel, delivery: Delivery) -> anyhow::Result<()> {
    let headers = delivery.properties.headers().as_ref();
    let correlation = headers.and_then(|table| table.inner().get(CORRELATION_ID)).cloned();
    let Some(AMQPValue::LongString(id)) = &correlation else { bail!("a chunk without correlation id") };
    let key = format!("reply.{id}");
    let mut table = FieldTable::default();
    table.insert("x-status".into(), AMQPValue::LongString("ack".into()));
    table.insert(CORRELATION_ID.into(), AMQPValue::LongString(id.clone()));
    let properties = BasicProperties::default().with_headers(table).with_expiration(EXPIRATION.into());
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let published = replies.basic_publish(EXCHANGE.into(), key.into(), options, &[], properties).await?;
    if !published.await?.is_ack() {
        bail!("a reply was not confirmed");
    }
    delivery.acker.ack(BasicAckOptions::default()).await?;
    Ok(())
}
