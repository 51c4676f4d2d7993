//! A look at the broker that changes nothing there: every declaration is passive.

use std::future::Future;

use lapin::options::{ExchangeDeclareOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Connection, ErrorKind, ExchangeKind};

use super::BrokerError;
use super::connection::{LapinBroker, STEP, in_time};
use super::wire::{short, sorted};
use crate::config::AmqpConfig;

/// What is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topology {
    /// Exchange and queues that do not exist.
    pub absent: Vec<String>,
    /// Chunks that wait in their queue.
    pub chunks: u32,
    /// Who takes chunks from it.
    pub consumers: u32,
}

impl LapinBroker {
    /// Connects and looks at exchange and queues. Their flags cannot be seen this way: other ones are noticed when the
    /// service declares them.
    ///
    /// # Errors
    /// When the broker is not reached or refuses the user.
    pub async fn inspect(&self) -> Result<Topology, BrokerError> {
        let connection = self.open("check").await?;
        let looked = look(&connection, self.config()).await;
        // The look is over either way; a broker that does not say goodbye in time is left.
        let _ = in_time(connection.close(200, short("done")?)).await;
        looked
    }
}

async fn look(connection: &Connection, config: &AmqpConfig) -> Result<Topology, BrokerError> {
    let mut topology = Topology { absent: Vec::new(), chunks: 0, consumers: 0 };
    if !exchange_exists(connection, config).await? {
        topology.absent.push(format!("exchange {}", config.exchange));
    }
    match queue(connection, &config.upload_queue).await? {
        Some((chunks, consumers)) => (topology.chunks, topology.consumers) = (chunks, consumers),
        None => topology.absent.push(format!("queue {}", config.upload_queue)),
    }
    if queue(connection, &config.reply_queue).await?.is_none() {
        topology.absent.push(format!("queue {}", config.reply_queue));
    }
    Ok(topology)
}

/// A passive declaration of what is not there closes its channel: each has its own.
async fn channel(connection: &Connection) -> Result<Channel, BrokerError> {
    in_time(connection.create_channel()).await
}

async fn exchange_exists(connection: &Connection, config: &AmqpConfig) -> Result<bool, BrokerError> {
    let options = ExchangeDeclareOptions { passive: true, ..ExchangeDeclareOptions::default() };
    let name = short(&config.exchange)?;
    let asked = channel(connection).await?;
    let declared = asked.exchange_declare(name, ExchangeKind::Topic, options, FieldTable::default());
    present(declared).await.map(|found| found.is_some())
}

async fn queue(connection: &Connection, name: &str) -> Result<Option<(u32, u32)>, BrokerError> {
    let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let asked = channel(connection).await?;
    let declared = asked.queue_declare(short(name)?, options, FieldTable::default());
    Ok(present(declared).await?.map(|queue| (queue.message_count(), queue.consumer_count())))
}

/// 404 is an answer, anything else an error.
async fn present<T>(declared: impl Future<Output = lapin::Result<T>>) -> Result<Option<T>, BrokerError> {
    const NOT_FOUND: u16 = 404;
    match tokio::time::timeout(STEP, declared).await {
        Ok(Ok(found)) => Ok(Some(found)),
        Ok(Err(error)) => match error.kind() {
            ErrorKind::ProtocolError(error) if error.get_id() == NOT_FOUND => Ok(None),
            _ => Err(sorted(&error)),
        },
        Err(_) => Err(BrokerError::Timeout(STEP)),
    }
}
