//! A broker in memory that redelivers, blocks, returns and breaks like a real one, and writes down what it was asked.

mod link;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::weather::{Changes, Sky};
use crate::domain::chunk::RawDelivery;
use crate::gateways::broker::BrokerError;
use crate::ticket::Reply;

/// What the broker was asked, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    /// A link was opened.
    Connected,
    /// The topology was declared again.
    Declared,
    /// A reply was confirmed.
    Published(Reply),
    /// A reply found no queue.
    Returned(Reply),
    /// A delivery was settled for good.
    Acked(u64),
    /// A delivery was refused for good.
    Rejected(u64),
    /// A delivery was requeued.
    GivenBack(u64),
    /// Consuming was stopped or started again.
    Consume(bool),
    /// A link was closed in good order.
    Closed,
}

/// Clones share the broker; each has one link, and the newest takes the place of the one before.
#[derive(Debug, Clone)]
pub struct MemoryBroker {
    state: Arc<Mutex<State>>,
    changes: Arc<Changes>,
    sky: Sky,
    consumer: usize,
}

#[derive(Debug, Default)]
struct State {
    calls: Vec<Call>,
    fresh: Vec<Reply>,
    handed: BTreeMap<Vec<u8>, usize>,
    unknown_tags: usize,
    queue: VecDeque<RawDelivery>,
    links: BTreeMap<u64, Open>,
    last_tag: u64,
    last_link: u64,
    consumers: usize,
    prefetch: usize,
    blocked: bool,
    returns: usize,
    settled_under_alarm: BTreeSet<Vec<u8>>,
    failing_publishes: usize,
    refusals: VecDeque<BrokerError>,
}

/// A link that is alive.
#[derive(Debug)]
struct Open {
    consumer: usize,
    consuming: bool,
    told_blocked: bool,
    unsettled: BTreeMap<u64, RawDelivery>,
}

impl MemoryBroker {
    /// A broker that has at most `prefetch` deliveries unsettled on each link.
    pub fn new(prefetch: usize) -> Self {
        let state = State { prefetch, ..State::default() };
        let (state, changes) = (Arc::new(Mutex::new(state)), Arc::default());
        MemoryBroker { state, changes, sky: Sky::default(), consumer: 0 }
    }

    /// The same broker for another consumer, under a weather of its own.
    pub fn consumer(&self, sky: Sky) -> Self {
        let consumer = self.change(|state| {
            state.consumers += 1;
            state.consumers
        });
        MemoryBroker { sky, consumer, ..self.clone() }
    }

    /// Cuts this consumer's link only.
    pub fn cut_this(&self) {
        self.change(|state| state.sever_of(self.consumer));
    }

    /// Every message and reply in it is gone, as after a restart with queues that are not durable.
    pub fn forget(&self) {
        self.change(|state| {
            state.links.clear();
            state.queue.clear();
            state.fresh.clear();
        });
    }

    /// The replies confirmed since the last time.
    pub fn take_replies(&self) -> Vec<Reply> {
        std::mem::take(&mut self.locked().fresh)
    }

    /// Whether there are any.
    pub fn has_replies(&self) -> bool {
        !self.locked().fresh.is_empty()
    }

    /// How often the chunk with this correlation id was handed to a consumer.
    pub fn handed(&self, correlation: &str) -> usize {
        self.locked().handed.get(correlation.as_bytes()).copied().unwrap_or(0)
    }

    /// Whether the chunk with this correlation id was settled while no reply could be published: its reply is kept by the
    /// replica that settled it, and ends with that one.
    pub fn settled_under_alarm(&self, correlation: &str) -> bool {
        self.locked().settled_under_alarm.contains(correlation.as_bytes())
    }

    /// Settlements of deliveries that were not open: one that was settled twice is.
    pub fn unknown_tags(&self) -> usize {
        self.locked().unknown_tags
    }

    /// Deliveries that are neither settled nor back in the queue.
    pub fn unsettled(&self) -> usize {
        self.locked().links.values().map(|open| open.unsettled.len()).sum()
    }

    /// Puts a message into the queue.
    pub fn send(&self, delivery: RawDelivery) {
        self.change(|state| state.queue.push_back(delivery));
    }

    /// Cuts all links; what is unsettled goes back into the queue.
    pub fn cut(&self) {
        self.change(State::sever_all);
    }

    /// The next attempts to connect end like this.
    pub fn refuse(&self, errors: impl IntoIterator<Item = BrokerError>) {
        self.change(|state| state.refusals.extend(errors));
    }

    /// Raises or lifts the alarm: replies are not confirmed while it lasts.
    pub fn block(&self, blocked: bool) {
        self.change(|state| state.blocked = blocked);
    }

    /// The next `count` replies find no queue.
    pub fn return_next(&self, count: usize) {
        self.change(|state| state.returns = count);
    }

    /// The next `count` publishes fail, and the link with them.
    pub fn fail_publishes(&self, count: usize) {
        self.change(|state| state.failing_publishes = count);
    }

    /// All calls so far.
    pub fn calls(&self) -> Vec<Call> {
        self.locked().calls.clone()
    }

    /// The replies that were confirmed.
    pub fn replies(&self) -> Vec<Reply> {
        let published = |call| if let Call::Published(reply) = call { Some(reply) } else { None };
        self.calls().into_iter().filter_map(published).collect()
    }

    /// Messages that wait in the queue.
    pub fn queued(&self) -> usize {
        self.locked().queue.len()
    }

    /// Waits until the broker looks like this; `false` if it does not within `deadline`.
    pub async fn until(&self, deadline: Duration, holds: impl Fn(&MemoryBroker) -> bool) -> bool {
        let wait = self.changes.until(|| holds(self).then_some(()));
        tokio::time::timeout(deadline, wait).await.is_ok()
    }

    fn locked(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.locked());
        self.changes.tell();
        result
    }
}
