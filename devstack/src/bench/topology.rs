//! Exchange and queues as the service and gateway declare them.

use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{Channel, ExchangeKind};

pub(super) const EXCHANGE: &str = "chunk-exchange";
pub(super) const CHUNKS: &str = "chunk-upload";
pub(super) const REPLIES: &str = "chunk-reply";

/// Declares all with the flags of the contract.
pub(super) async fn declare(channel: &Channel) -> lapin::Result<()> {
    let table = FieldTable::default;
    let kind = ExchangeKind::Topic;
    channel.exchange_declare(EXCHANGE.into(), kind, ExchangeDeclareOptions::default(), table()).await?;
    for (queue, key) in [(CHUNKS, "chunk.*"), (REPLIES, "reply.*")] {
        channel.queue_declare(queue.into(), QueueDeclareOptions::default(), table()).await?;
        let options = QueueBindOptions::default();
        channel.queue_bind(queue.into(), EXCHANGE.into(), key.into(), options, table()).await?;
    }
    Ok(())
}
