//! Opens the two connections: address, topology, prefetch. Nothing here recovers by itself; a lost link is replaced.

use std::future::Future;
use std::time::Duration;

use async_trait::async_trait;
use lapin::options::QueueDeclareOptions;
use lapin::options::{BasicQosOptions, ConfirmSelectOptions, ExchangeDeclareOptions, QueueBindOptions};
use lapin::types::FieldTable;
use lapin::uri::AMQPUri;
use lapin::{Channel, Connection, ConnectionProperties, ExchangeKind};
use secrecy::ExposeSecret;

use super::link::LapinLink;
use super::transport;
use super::wire::{short, sorted};
use super::{Broker, BrokerError, BrokerLink};
use crate::config::AmqpConfig;

/// The longest wait for one answer of the broker.
pub(super) const STEP: Duration = Duration::from_secs(10);

/// RabbitMQ through lapin.
#[derive(Debug, Clone)]
pub struct LapinBroker {
    config: AmqpConfig,
    name: String,
}

impl LapinBroker {
    /// A broker at `config.url`; `replica` names the connections for operators.
    pub fn new(config: AmqpConfig, replica: &str) -> Self {
        LapinBroker { config, name: format!("uploader-v4 {replica}") }
    }

    pub(super) fn config(&self) -> &AmqpConfig {
        &self.config
    }

    pub(super) async fn open(&self, purpose: &str) -> Result<Connection, BrokerError> {
        let uri = address(self.config.url.expose_secret(), self.config.heartbeat)?;
        let name = format!("{} {purpose}", self.name);
        let properties = ConnectionProperties::default().with_connection_name(name.into());
        let trust = self.config.trust.clone();
        let open = async move |uri: AMQPUri, _| Ok(transport::open(&uri, &trust).await?);
        in_time(Connection::connector(uri, transport::runtime(), open, properties)).await
    }
}

#[async_trait]
impl Broker for LapinBroker {
    async fn connect(&self) -> Result<Box<dyn BrokerLink>, BrokerError> {
        let incoming = self.open("deliveries").await?;
        let outgoing = self.open("replies").await?;
        let link = LapinLink::start(&self.config, incoming, outgoing).await?;
        Ok(Box::new(link))
    }
}

/// Waits for one answer of the broker, and not longer than [`STEP`].
pub(super) async fn in_time<T>(step: impl Future<Output = lapin::Result<T>>) -> Result<T, BrokerError> {
    match tokio::time::timeout(STEP, step).await {
        Ok(answer) => answer.map_err(|error| sorted(&error)),
        Err(_) => Err(BrokerError::Timeout(STEP)),
    }
}

/// `amqp://host` and `amqp://host/` both mean vhost `/`. The address may hold a password: no error repeats it.
fn address(url: &str, heartbeat: Duration) -> Result<AMQPUri, BrokerError> {
    let parsed = url.parse::<AMQPUri>();
    let mut uri =
        parsed.map_err(|_| BrokerError::Refused("the address is no amqp:// or amqps:// URL".into()))?;
    if uri.vhost.is_empty() {
        uri.vhost = "/".to_owned();
    }
    uri.query.heartbeat = Some(u16::try_from(heartbeat.as_secs()).unwrap_or(u16::MAX).max(1));
    Ok(uri)
}

/// A channel that deliveries arrive on, at most `prefetch` of them unsettled.
pub(super) async fn delivery_channel(incoming: &Connection, prefetch: u16) -> Result<Channel, BrokerError> {
    let channel = in_time(incoming.create_channel()).await?;
    in_time(channel.basic_qos(prefetch, BasicQosOptions::default())).await?;
    Ok(channel)
}

/// A channel whose publishes the broker confirms.
pub(super) async fn reply_channel(outgoing: &Connection) -> Result<Channel, BrokerError> {
    let channel = in_time(outgoing.create_channel()).await?;
    in_time(channel.confirm_select(ConfirmSelectOptions::default())).await?;
    Ok(channel)
}

/// Declares exchange, queues and bindings. Whoever declared them before must have used the same flags.
pub(super) async fn declare(channel: &Channel, config: &AmqpConfig) -> Result<(), BrokerError> {
    let durable = config.durable;
    let options = ExchangeDeclareOptions { durable, ..ExchangeDeclareOptions::default() };
    let exchange = short(&config.exchange)?;
    in_time(channel.exchange_declare(exchange, ExchangeKind::Topic, options, FieldTable::default())).await?;
    for (queue, key) in [(&config.upload_queue, "chunk.*"), (&config.reply_queue, "reply.*")] {
        let options = QueueDeclareOptions { durable, ..QueueDeclareOptions::default() };
        in_time(channel.queue_declare(short(queue)?, options, FieldTable::default())).await?;
        let (queue, exchange) = (short(queue)?, short(&config.exchange)?);
        let options = QueueBindOptions::default();
        in_time(channel.queue_bind(queue, exchange, short(key)?, options, FieldTable::default())).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn vhost(url: &str) -> String {
        address(url, Duration::from_secs(10)).unwrap().vhost
    }

    #[test]
    fn an_address_without_a_vhost_means_the_default_one() {
        for url in ["amqp://host", "amqp://host/", "amqp://host/%2f", "amqp://u:p@host:1234"] {
            assert_eq!(vhost(url), "/", "{url}");
        }
        assert_eq!(vhost("amqp://host/other"), "other");
    }

    #[test]
    fn the_heartbeat_is_asked_for() {
        assert_eq!(address("amqp://host", Duration::from_secs(10)).unwrap().query.heartbeat, Some(10));
    }

    #[test]
    fn a_bad_address_is_not_repeated() {
        for url in ["http://user:secret@host", "amqp:secret", "secret"] {
            let error = address(url, Duration::from_secs(10)).unwrap_err();
            assert!(matches!(error, BrokerError::Refused(_)));
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }
}
