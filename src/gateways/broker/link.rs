//! One incarnation of both connections.
//!
//! Three tasks report into one bounded line of events: deliveries, the state of either connection, and a watch that
//! notices what the client itself does not report. Whichever finds the link dead first says so; the others keep quiet.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::{Stream, StreamExt};
use lapin::options::{BasicCancelOptions, BasicConsumeOptions, BasicPublishOptions};
use lapin::types::{FieldTable, ShortString};
use lapin::{Channel, Confirmation, Connection, Consumer, Event, PublisherConfirm};
use tokio::sync::{Mutex as AsyncMutex, mpsc, oneshot};
use tokio::task::JoinSet;

use super::connection::{STEP, declare, delivery_channel, in_time, reply_channel};
use super::settle::Settler;
use super::wire::{raw_delivery, reply_key, reply_properties, short, sorted};
use super::{BrokerError, BrokerLink, LinkEvent, Published};
use crate::config::AmqpConfig;
use crate::ticket::Reply;

/// How often the watch looks at both connections.
const WATCH: Duration = Duration::from_secs(1);
/// Events besides deliveries that fit into the line.
const SPARE: usize = 16;

/// RabbitMQ through two connections of lapin.
pub(super) struct LapinLink {
    config: AmqpConfig,
    incoming: Arc<Connection>,
    outgoing: Arc<Connection>,
    deliveries: Channel,
    replies: Channel,
    settler: Arc<Settler>,
    consumer: AsyncMutex<Option<Subscription>>,
    /// Tells when the newest consumer's deliveries are all passed on.
    pumped: Mutex<Option<oneshot::Receiver<()>>>,
    reporter: Reporter,
    line: AsyncMutex<mpsc::Receiver<LinkEvent>>,
    returned: Mutex<HashSet<ShortString>>,
    tasks: Mutex<JoinSet<()>>,
}

struct Subscription {
    tag: ShortString,
    cancelled: Arc<AtomicBool>,
}

impl LapinLink {
    /// Declares the topology and starts to consume.
    pub async fn start(
        config: &AmqpConfig,
        incoming: Connection,
        outgoing: Connection,
    ) -> Result<Self, BrokerError> {
        let (events, line) = mpsc::channel(usize::from(config.prefetch) + SPARE);
        let deliveries = delivery_channel(&incoming, config.prefetch).await?;
        let link = LapinLink {
            settler: Arc::new(Settler::new(deliveries.clone())),
            deliveries,
            replies: reply_channel(&outgoing).await?,
            incoming: Arc::new(incoming),
            outgoing: Arc::new(outgoing),
            config: config.clone(),
            consumer: AsyncMutex::new(None),
            pumped: Mutex::default(),
            reporter: Reporter { events, lost: Arc::default(), blocked: Arc::default() },
            line: AsyncMutex::new(line),
            returned: Mutex::default(),
            tasks: Mutex::default(),
        };
        link.observe();
        link.declare().await?;
        link.consume(true).await?;
        Ok(link)
    }

    fn observe(&self) {
        let deliveries = self.incoming.events_listener().boxed();
        let replies = self.outgoing.events_listener().boxed();
        self.spawn(self.reporter.clone().follow(deliveries, false));
        self.spawn(self.reporter.clone().follow(replies, true));
        let connections = [self.incoming.clone(), self.outgoing.clone()];
        let channels = [self.deliveries.clone(), self.replies.clone()];
        self.spawn(self.reporter.clone().watch(connections, channels));
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).spawn(task);
    }

    async fn subscribe(&self) -> Result<Subscription, BrokerError> {
        let queue = short(&self.config.upload_queue)?;
        let options = BasicConsumeOptions::default();
        // The broker makes up the tag: an old consumer's last deliveries are never taken for a new one's.
        let consume = self.deliveries.basic_consume(queue, short("")?, options, FieldTable::default());
        let consumer = in_time(consume).await?;
        let cancelled = Arc::new(AtomicBool::new(false));
        let subscription = Subscription { tag: consumer.tag(), cancelled: cancelled.clone() };
        let (over, ended) = oneshot::channel::<()>();
        let former = self.pumped.lock().unwrap_or_else(PoisonError::into_inner).replace(ended);
        let pump = self.reporter.clone().pump(consumer, self.settler.clone(), cancelled);
        self.spawn(async move {
            // The last deliveries of a cancelled consumer came before the first ones of the next.
            if let Some(former) = former {
                let _ = former.await;
            }
            pump.await;
            drop(over);
        });
        Ok(subscription)
    }

    /// Waits for a confirm. The broker confirms nothing while it blocks this connection: that time does not count.
    async fn confirmed(&self, confirm: PublisherConfirm) -> Result<Confirmation, BrokerError> {
        let mut confirm = confirm;
        loop {
            match tokio::time::timeout(STEP, &mut confirm).await {
                Ok(confirmation) => return confirmation.map_err(|error| sorted(&error)),
                Err(_) if self.reporter.is_blocked() => {}
                Err(_) => return Err(BrokerError::Timeout(STEP)),
            }
        }
    }

    /// Sends one reply. A blocked connection takes no frames: that time does not count either.
    async fn sent(&self, reply: &Reply, key: ShortString) -> Result<PublisherConfirm, BrokerError> {
        let properties = reply_properties(reply, self.config.reply_expiration.as_millis())?;
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let publish =
            self.replies.basic_publish(short(&self.config.exchange)?, key, options, &[], properties);
        let mut publish = Box::pin(publish);
        loop {
            match tokio::time::timeout(STEP, &mut publish).await {
                Ok(sent) => return sent.map_err(|error| sorted(&error)),
                Err(_) if self.reporter.is_blocked() => {}
                Err(_) => return Err(BrokerError::Timeout(STEP)),
            }
        }
    }

    /// The client attaches a returned message to the next confirm, which need not be its own: so each is noted by its
    /// routing key, and whoever was confirmed looks only after all others that were confirmed have noted theirs.
    async fn came_back(&self, key: &ShortString, confirmation: Confirmation) -> bool {
        if let Some(message) = confirmation.take_message() {
            self.noted().insert(message.delivery.routing_key);
        }
        tokio::task::yield_now().await;
        self.noted().remove(key)
    }

    fn noted(&self) -> std::sync::MutexGuard<'_, HashSet<ShortString>> {
        self.returned.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl BrokerLink for LapinLink {
    async fn next(&self) -> LinkEvent {
        match self.line.lock().await.recv().await {
            Some(event) => event,
            None => LinkEvent::Lost(BrokerError::Lost("the link was closed".into())),
        }
    }

    async fn publish(&self, reply: &Reply) -> Result<Published, BrokerError> {
        let key = reply_key(reply)?;
        let confirm = self.sent(reply, key.clone()).await?;
        let confirmation = self.confirmed(confirm).await?;
        let refused = confirmation.is_nack();
        match (self.came_back(&key, confirmation).await, refused) {
            (true, _) => Ok(Published::Returned),
            (false, false) => Ok(Published::Confirmed),
            (false, true) => Err(BrokerError::Lost("the broker could not take a reply".into())),
        }
    }

    async fn declare(&self) -> Result<(), BrokerError> {
        declare(&self.deliveries, &self.config).await
    }

    async fn ack(&self, tag: u64) -> Result<(), BrokerError> {
        self.settler.ack(tag).await
    }

    async fn reject(&self, tag: u64) -> Result<(), BrokerError> {
        self.settler.reject(tag).await
    }

    async fn give_back(&self, tag: u64) -> Result<(), BrokerError> {
        self.settler.give_back(tag).await
    }

    async fn consume(&self, on: bool) -> Result<(), BrokerError> {
        let mut consumer = self.consumer.lock().await;
        match (on, consumer.take()) {
            (true, None) => *consumer = Some(self.subscribe().await?),
            (true, subscribed) => *consumer = subscribed,
            (false, None) => {}
            (false, Some(Subscription { tag, cancelled })) => {
                cancelled.store(true, Ordering::Release);
                in_time(self.deliveries.basic_cancel(tag, BasicCancelOptions::default())).await?;
            }
        }
        Ok(())
    }

    async fn close(&self) {
        const DEADLINE: Duration = Duration::from_secs(1);
        const REPLY_SUCCESS: u16 = 200;
        self.reporter.lost.store(true, Ordering::Release);
        // Nobody waits any longer for an alarm to lift.
        self.reporter.blocked.store(false, Ordering::Release);
        let Ok(farewell) = short("OK") else { return };
        let both = async {
            // What cannot be closed in good order is closed by its end.
            let _ = self.outgoing.close(REPLY_SUCCESS, farewell.clone()).await;
            let _ = self.incoming.close(REPLY_SUCCESS, farewell).await;
        };
        let _ = tokio::time::timeout(DEADLINE, both).await;
    }
}

/// Tells the link's owner what happens, and that the link is lost exactly once.
#[derive(Clone)]
struct Reporter {
    events: mpsc::Sender<LinkEvent>,
    lost: Arc<AtomicBool>,
    blocked: Arc<AtomicBool>,
}

impl Reporter {
    fn is_blocked(&self) -> bool {
        self.blocked.load(Ordering::Acquire)
    }

    async fn tell(&self, event: LinkEvent) {
        // Nobody listens any more: the owner has dropped the link, which ends this task.
        let _ = self.events.send(event).await;
    }

    async fn lost(&self, error: BrokerError) {
        self.blocked.store(false, Ordering::Release);
        if !self.lost.swap(true, Ordering::AcqRel) {
            self.tell(LinkEvent::Lost(error)).await;
        }
    }

    /// A consumer's deliveries, until its end.
    async fn pump(self, mut consumer: Consumer, settler: Arc<Settler>, cancelled: Arc<AtomicBool>) {
        while let Some(delivery) = consumer.next().await {
            match delivery {
                Ok(delivery) => {
                    let tag = delivery.delivery_tag;
                    settler.delivered(tag);
                    self.tell(LinkEvent::Delivery { tag, delivery: raw_delivery(delivery) }).await;
                }
                Err(error) => return self.lost(sorted(&error)).await,
            }
        }
        if !cancelled.load(Ordering::Acquire) {
            self.lost(BrokerError::Lost("the broker cancelled the consumer".into())).await;
        }
    }

    /// What one connection reports. Only a blocked connection for replies matters.
    async fn follow(self, mut reports: impl Stream<Item = Event> + Send + Unpin, of_replies: bool) {
        while let Some(report) = reports.next().await {
            match report {
                Event::ConnectionBlocked(_) if of_replies => self.block(true).await,
                Event::ConnectionUnblocked if of_replies => self.block(false).await,
                Event::Error(error) => return self.lost(sorted(&error)).await,
                _ => {}
            }
        }
    }

    async fn block(&self, blocked: bool) {
        if self.blocked.swap(blocked, Ordering::AcqRel) != blocked {
            self.tell(LinkEvent::Blocked(blocked)).await;
        }
    }

    /// A dead connection is sometimes reported by nobody: no error, no end of the consumer.
    async fn watch(self, connections: [Arc<Connection>; 2], channels: [Channel; 2]) {
        let alive = || {
            connections.iter().all(|connection| connection.status().connected())
                && channels.iter().all(|channel| channel.status().connected())
        };
        while alive() {
            tokio::time::sleep(WATCH).await;
        }
        self.lost(BrokerError::Lost("the connection ended without a word".into())).await;
    }
}
