//! A look at the topology that changes nothing: passive declares on one connection of its own.
//!
//! A passive declare tells whether an exchange or a queue is there, not how it was declared, and nothing tells whether
//! a queue is bound. The service declares all of it, and finds that out, when it starts.

use std::future::Future;
use std::time::Duration;

use lapin::options::{ExchangeDeclareOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Connection, ErrorKind, ExchangeKind};

use super::BrokerError;
use super::connection::{LapinBroker, STEP};
use super::wire::{short, sorted};

/// The whole look.
const DEADLINE: Duration = Duration::from_secs(10);
/// The broker's code for what is not there.
const NOT_FOUND: u16 = 404;

/// A queue as it is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueSeen {
    /// Messages that wait for a consumer.
    pub ready: u32,
    /// Who consumes it.
    pub consumers: u32,
}

/// What is there of the topology.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topology {
    /// Whether the exchange is there.
    pub exchange: bool,
    /// The queue that chunks arrive in, if it is there.
    pub upload: Option<QueueSeen>,
    /// The queue that replies are routed to, if it is there.
    pub reply: Option<QueueSeen>,
}

impl LapinBroker {
    /// Connects, looks at the topology and leaves; declares and consumes nothing.
    ///
    /// # Errors
    /// [`BrokerError`], within ten seconds.
    pub async fn survey(&self) -> Result<Topology, BrokerError> {
        let look = async {
            let connection = self.open("check").await?;
            let seen = self.look(&connection).await;
            // What cannot be closed in good order is closed by its end.
            if let Ok(farewell) = short("OK") {
                let _ = connection.close(200, farewell).await;
            }
            seen
        };
        tokio::time::timeout(DEADLINE, look).await.unwrap_or(Err(BrokerError::Timeout(DEADLINE)))
    }

    async fn look(&self, connection: &Connection) -> Result<Topology, BrokerError> {
        Ok(Topology {
            exchange: exchange(connection, &self.config().exchange).await?,
            upload: queue(connection, &self.config().upload_queue).await?,
            reply: queue(connection, &self.config().reply_queue).await?,
        })
    }
}

async fn exchange(connection: &Connection, name: &str) -> Result<bool, BrokerError> {
    let channel = channel(connection).await?;
    let options = ExchangeDeclareOptions { passive: true, ..ExchangeDeclareOptions::default() };
    let (kind, none) = (ExchangeKind::Topic, FieldTable::default());
    Ok(present(channel.exchange_declare(short(name)?, kind, options, none)).await?.is_some())
}

async fn queue(connection: &Connection, name: &str) -> Result<Option<QueueSeen>, BrokerError> {
    let channel = channel(connection).await?;
    let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let found = present(channel.queue_declare(short(name)?, options, FieldTable::default())).await?;
    Ok(found.map(|queue| QueueSeen { ready: queue.message_count(), consumers: queue.consumer_count() }))
}

/// One for each question: a broker closes the channel on which it was asked for what is not there.
async fn channel(connection: &Connection) -> Result<Channel, BrokerError> {
    in_time(connection.create_channel()).await?.map_err(|error| sorted(&error))
}

/// `None` for what is not there.
async fn present<T>(ask: impl Future<Output = lapin::Result<T>>) -> Result<Option<T>, BrokerError> {
    match in_time(ask).await? {
        Ok(found) => Ok(Some(found)),
        Err(error) => match error.kind() {
            ErrorKind::ProtocolError(reason) if reason.get_id() == NOT_FOUND => Ok(None),
            _ => Err(sorted(&error)),
        },
    }
}

async fn in_time<T>(ask: impl Future<Output = T>) -> Result<T, BrokerError> {
    tokio::time::timeout(STEP, ask).await.map_err(|_| BrokerError::Timeout(STEP))
}
