//! The load generator: sessions that each have one chunk in flight, as a browser has, on gateway's side of the broker.
//!
//! The same one drives the echo and the service. It runs in this process, on one thread beside lapin's own.

use std::collections::HashMap;
use std::pin::Pin;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicPublishOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, Consumer};
use uuid::Uuid;

use super::content::Content;
use super::topology::{EXCHANGE, REPLIES, declare};

/// A chunk that has no reply by then is lost.
const LOST: Duration = Duration::from_secs(60);

/// What one place in the load sends: uploads one after another.
#[derive(Debug, Clone)]
pub(crate) struct Uploads {
    /// Its sessions, in this order.
    pub(crate) sessions: Vec<Uuid>,
    /// Bytes of each, whole chunks.
    pub(crate) file: u64,
}

struct Slot {
    uploads: Uploads,
    current: usize,
    /// Bytes of the current upload that were answered `ack`.
    stored: u64,
    sequence: u64,
    in_flight: Option<Instant>,
}

/// What a window of load has shown.
pub(crate) struct Heard {
    /// Chunks answered within the window.
    pub(crate) chunks: u64,
    /// The window's length as it was.
    pub(crate) window: Duration,
    /// Of every chunk that was sent in the window, at a counted place: microseconds until its reply.
    pub(crate) latencies: Vec<u32>,
}

/// What was stored when: session, bytes after it, time on the machine's clock.
pub(crate) type Stored = Vec<(Uuid, u64, Duration)>;

/// A load on one vhost.
pub(crate) struct Load {
    channel: Channel,
    replies: Consumer,
    _connections: [Connection; 2],
    content: Content,
    bytes: usize,
    slots: Vec<Slot>,
    /// Only the first so many places have their latencies told.
    pub(crate) counted: usize,
    /// Whether `stored` is written.
    pub(crate) noting: bool,
    pub(crate) stored: Stored,
}

type Work = FuturesUnordered<Pin<Box<dyn Future<Output = lapin::Result<()>>>>>;

impl Load {
    /// Connects and declares the topology; sends nothing yet.
    pub(crate) async fn open(
        url: &str,
        content: Content,
        bytes: usize,
        uploads: Vec<Uploads>,
    ) -> anyhow::Result<Self> {
        let connect = || Connection::connect(url, ConnectionProperties::default());
        let connections = [connect().await?, connect().await?];
        let channel = connections[0].create_channel().await?;
        declare(&channel).await?;
        let hearing = connections[1].create_channel().await?;
        let consume = BasicConsumeOptions::default();
        let replies =
            hearing.basic_consume(REPLIES.into(), "".into(), consume, FieldTable::default()).await?;
        let slot = |uploads| Slot { uploads, current: 0, stored: 0, sequence: 0, in_flight: None };
        let slots = uploads.into_iter().map(slot).collect();
        Ok(Load {
            channel,
            replies,
            _connections: connections,
            content,
            bytes,
            slots,
            counted: usize::MAX,
            noting: false,
            stored: Vec::new(),
        })
    }

    /// All places send for as long as `window`; then this waits for what is in flight.
    ///
    /// # Errors
    /// When a chunk is refused, answered twice or not at all, or the broker is lost.
    pub(crate) async fn run(&mut self, window: Duration) -> anyhow::Result<Heard> {
        self.run_on(0..self.slots.len(), window).await
    }

    /// Like `run`, with some of the places. In no time at all each of them sends one chunk.
    ///
    /// # Errors
    /// As `run`.
    pub(crate) async fn run_on(
        &mut self,
        slots: impl IntoIterator<Item = usize>,
        window: Duration,
    ) -> anyhow::Result<Heard> {
        let (begun, mut work) = (Instant::now(), Work::new());
        let mut heard = Heard { chunks: 0, window, latencies: Vec::new() };
        let mut open = 0_usize;
        for slot in slots {
            self.send(slot, &work)?;
            open += 1;
        }
        while open > 0 {
            let delivery = self.next(&mut work).await?;
            let (slot, latency) = self.settle(&delivery)?;
            work.push(Box::pin(
                async move { delivery.acker.ack(BasicAckOptions::default()).await.map(drop) },
            ));
            if slot < self.counted {
                heard.latencies.push(u32::try_from(latency.as_micros()).unwrap_or(u32::MAX));
            }
            if begun.elapsed() < window {
                heard.chunks += 1;
                self.send(slot, &work)?;
            } else {
                open -= 1;
            }
        }
        finish(work).await?;
        Ok(heard)
    }

    /// The next reply, while chunks and acks are written.
    async fn next(&mut self, work: &mut Work) -> anyhow::Result<Delivery> {
        loop {
            tokio::select! {
                delivery = self.replies.next() => return Ok(delivery.context("the replies have ended")??),
                Some(done) = work.next() => done?,
                () = tokio::time::sleep(LOST) => bail!("a chunk was not answered within {LOST:?}"),
            }
        }
    }

    fn send(&mut self, number: usize, work: &Work) -> anyhow::Result<()> {
        let slot = &mut self.slots[number];
        if slot.stored == slot.uploads.file {
            (slot.current, slot.stored) = (slot.current + 1, 0);
        }
        let session = *slot.uploads.sessions.get(slot.current).context("the load has no uploads left")?;
        slot.sequence += 1;
        slot.in_flight = Some(Instant::now());
        let id = correlation(number, slot.sequence).to_string();
        let (channel, content) = (self.channel.clone(), self.content.clone());
        let place = content.place(session, slot.stored, self.bytes);
        let properties =
            BasicProperties::default().with_headers(table(session, slot.stored, self.bytes, &id));
        let key = format!("chunk.{id}");
        work.push(Box::pin(async move {
            let (options, body) = (BasicPublishOptions::default(), content.bytes(place));
            channel.basic_publish(EXCHANGE.into(), key.into(), options, body, properties).await.map(drop)
        }));
        Ok(())
    }

    /// Which slot a reply is for, and how long it took.
    fn settle(&mut self, delivery: &Delivery) -> anyhow::Result<(usize, Duration)> {
        let headers = delivery.properties.headers().as_ref();
        let text = |name: &str| match headers?.inner().get(name)? {
            AMQPValue::LongString(text) => Some(text.to_string()),
            _ => None,
        };
        let id = text("x-correlation-id").context("a reply without correlation id")?;
        if text("x-status").as_deref() != Some("ack") {
            bail!("a chunk was refused: {}", text("x-error").unwrap_or_default());
        }
        let (number, sequence) = place(&id).with_context(|| format!("a reply to nothing: {id}"))?;
        let slot = self.slots.get_mut(number).context("a reply to nothing")?;
        let sent = slot.in_flight.take().filter(|_| slot.sequence == sequence);
        let sent = sent.with_context(|| format!("a chunk was answered twice: {id}"))?;
        slot.stored += self.bytes as u64;
        if self.noting {
            let session = slot.uploads.sessions[slot.current];
            self.stored.push((session, slot.stored, super::sink::now()));
        }
        Ok((number, sent.elapsed()))
    }

    /// Bytes of each session that were answered `ack`.
    pub(crate) fn progress(&self) -> HashMap<Uuid, u64> {
        let of = |slot: &Slot| {
            let done = slot.uploads.sessions[..slot.current].iter().map(|&id| (id, slot.uploads.file));
            let current = slot.uploads.sessions.get(slot.current).map(|&id| (id, slot.stored));
            done.chain(current).filter(|(_, bytes)| *bytes > 0).collect::<Vec<_>>()
        };
        self.slots.iter().flat_map(of).collect()
    }

    /// What the place sends now.
    pub(crate) fn session(&self, slot: usize) -> Option<Uuid> {
        let slot = self.slots.get(slot)?;
        slot.uploads.sessions.get(slot.current).copied()
    }

    /// Bytes of a chunk.
    pub(crate) fn chunk_bytes(&self) -> usize {
        self.bytes
    }
}

/// What is still to be written, down to the last ack.
async fn finish(mut work: Work) -> anyhow::Result<()> {
    while let Some(done) = work.next().await {
        done?;
    }
    Ok(())
}

/// Slot and sequence make an id that nothing else has, in the form that gateway gives it.
fn correlation(slot: usize, sequence: u64) -> Uuid {
    Uuid::from_u64_pair(slot as u64, sequence)
}

fn place(id: &str) -> Option<(usize, u64)> {
    let (slot, sequence) = Uuid::parse_str(id).ok()?.as_u64_pair();
    Some((usize::try_from(slot).ok()?, sequence))
}

/// The headers of a chunk, numbers in the smallest type that holds them.
fn table(session: Uuid, start: u64, bytes: usize, id: &str) -> FieldTable {
    let mut table = FieldTable::default();
    let text = |text: String| AMQPValue::LongString(text.into());
    table.insert("x-session-id".into(), text(session.to_string()));
    table.insert("x-start-byte".into(), number(start));
    table.insert("x-size".into(), number(bytes as u64));
    table.insert("x-correlation-id".into(), text(id.to_owned()));
    table
}

fn number(value: u64) -> AMQPValue {
    let signed = i64::try_from(value).unwrap_or(i64::MAX);
    if let Ok(value) = i8::try_from(signed) {
        return AMQPValue::ShortShortInt(value);
    }
    if let Ok(value) = i16::try_from(signed) {
        return AMQPValue::ShortInt(value);
    }
    i32::try_from(signed).map_or(AMQPValue::LongLongInt(signed), AMQPValue::LongInt)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_correlation_id_tells_its_slot_and_sequence() {
        assert_eq!(place(&correlation(4_999, 70_000).to_string()), Some((4_999, 70_000)));
    }

    #[test]
    fn numbers_have_the_smallest_type() {
        assert_eq!(number(127), AMQPValue::ShortShortInt(127));
        assert_eq!(number(8_192), AMQPValue::ShortInt(8_192));
        assert_eq!(number(1 << 20), AMQPValue::LongInt(1 << 20));
        assert_eq!(number(1 << 31), AMQPValue::LongLongInt(1 << 31));
    }
}
