//! A broker in memory that redelivers, blocks, returns and breaks like a real one, and writes down what it was asked.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;

use crate::domain::chunk::RawDelivery;
use crate::gateways::broker::{Broker, BrokerError, BrokerLink, LinkEvent, Published};
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

/// Clones share the broker.
#[derive(Debug, Clone)]
pub struct MemoryBroker {
    state: Arc<Mutex<State>>,
    changes: Arc<watch::Sender<u64>>,
}

#[derive(Debug, Default)]
struct State {
    calls: Vec<Call>,
    queue: VecDeque<RawDelivery>,
    unsettled: BTreeMap<u64, RawDelivery>,
    last_tag: u64,
    prefetch: usize,
    link: u64,
    alive: bool,
    consuming: bool,
    blocked: bool,
    told_blocked: bool,
    returns: usize,
    failing_publishes: usize,
    refusals: VecDeque<BrokerError>,
}

impl MemoryBroker {
    /// A broker that has at most `prefetch` deliveries unsettled.
    pub fn new(prefetch: usize) -> Self {
        let state = State { prefetch, ..State::default() };
        MemoryBroker { state: Arc::new(Mutex::new(state)), changes: Arc::new(watch::Sender::new(0)) }
    }

    /// Puts a message into the queue.
    pub fn send(&self, delivery: RawDelivery) {
        self.change(|state| state.queue.push_back(delivery));
    }

    /// Cuts the link; what is unsettled goes back into the queue.
    pub fn cut(&self) {
        self.change(State::sever);
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
        let mut changes = self.changes.subscribe();
        let wait = async {
            while !holds(self) {
                if changes.changed().await.is_err() {
                    return;
                }
            }
        };
        tokio::time::timeout(deadline, wait).await.is_ok()
    }

    fn locked(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.locked());
        self.changes.send_modify(|version| *version += 1);
        result
    }
}

impl State {
    fn sever(&mut self) {
        self.alive = false;
        for (_, delivery) in std::mem::take(&mut self.unsettled).into_iter().rev() {
            self.queue.push_front(delivery);
        }
    }

    fn connect(&mut self) -> Result<u64, BrokerError> {
        if let Some(error) = self.refusals.pop_front() {
            return Err(error);
        }
        self.sever();
        self.link += 1;
        (self.alive, self.consuming, self.told_blocked) = (true, true, false);
        self.calls.push(Call::Connected);
        Ok(self.link)
    }

    fn serves(&self, link: u64) -> bool {
        self.alive && self.link == link
    }

    fn next(&mut self, link: u64) -> Option<LinkEvent> {
        if !self.serves(link) {
            return Some(LinkEvent::Lost(lost()));
        }
        if self.told_blocked != self.blocked {
            self.told_blocked = self.blocked;
            return Some(LinkEvent::Blocked(self.blocked));
        }
        if !self.consuming || self.unsettled.len() >= self.prefetch {
            return None;
        }
        let delivery = self.queue.pop_front()?;
        self.last_tag += 1;
        self.unsettled.insert(self.last_tag, delivery.clone());
        Some(LinkEvent::Delivery { tag: self.last_tag, delivery })
    }

    fn publish(&mut self, link: u64, reply: &Reply) -> Option<Result<Published, BrokerError>> {
        if !self.serves(link) {
            return Some(Err(lost()));
        }
        if self.blocked {
            return None;
        }
        if self.failing_publishes > 0 {
            self.failing_publishes -= 1;
            self.sever();
            return Some(Err(lost()));
        }
        if self.returns > 0 {
            self.returns -= 1;
            self.calls.push(Call::Returned(reply.clone()));
            return Some(Ok(Published::Returned));
        }
        self.calls.push(Call::Published(reply.clone()));
        Some(Ok(Published::Confirmed))
    }

    fn settle(&mut self, link: u64, tag: u64, call: Call) -> Result<(), BrokerError> {
        if !self.serves(link) {
            return Err(lost());
        }
        let Some(delivery) = self.unsettled.remove(&tag) else {
            self.sever();
            return Err(BrokerError::Lost(format!("unknown delivery tag {tag}")));
        };
        if call == Call::GivenBack(tag) {
            self.queue.push_back(delivery);
        }
        self.calls.push(call);
        Ok(())
    }
}

fn lost() -> BrokerError {
    BrokerError::Lost("cut".into())
}

#[async_trait]
impl Broker for MemoryBroker {
    async fn connect(&self) -> Result<Box<dyn BrokerLink>, BrokerError> {
        let number = self.change(State::connect)?;
        Ok(Box::new(MemoryLink { broker: self.clone(), number }))
    }
}

struct MemoryLink {
    broker: MemoryBroker,
    number: u64,
}

impl MemoryLink {
    async fn when<T>(&self, mut attempt: impl FnMut(&mut State) -> Option<T>) -> Option<T> {
        let mut changes = self.broker.changes.subscribe();
        loop {
            let outcome = attempt(&mut self.broker.locked());
            if let Some(outcome) = outcome {
                self.broker.change(|_| ());
                return Some(outcome);
            }
            changes.changed().await.ok()?;
        }
    }
}

#[async_trait]
impl BrokerLink for MemoryLink {
    async fn next(&self) -> LinkEvent {
        let event = self.when(|state| state.next(self.number)).await;
        event.unwrap_or_else(|| LinkEvent::Lost(lost()))
    }

    async fn publish(&self, reply: &Reply) -> Result<Published, BrokerError> {
        self.when(|state| state.publish(self.number, reply)).await.unwrap_or_else(|| Err(lost()))
    }

    async fn declare(&self) -> Result<(), BrokerError> {
        self.broker.change(|state| state.calls.push(Call::Declared));
        Ok(())
    }

    async fn ack(&self, tag: u64) -> Result<(), BrokerError> {
        self.broker.change(|state| state.settle(self.number, tag, Call::Acked(tag)))
    }

    async fn reject(&self, tag: u64) -> Result<(), BrokerError> {
        self.broker.change(|state| state.settle(self.number, tag, Call::Rejected(tag)))
    }

    async fn give_back(&self, tag: u64) -> Result<(), BrokerError> {
        self.broker.change(|state| state.settle(self.number, tag, Call::GivenBack(tag)))
    }

    async fn consume(&self, on: bool) -> Result<(), BrokerError> {
        self.broker.change(|state| {
            state.consuming = on;
            state.calls.push(Call::Consume(on));
        });
        Ok(())
    }

    async fn close(&self) {
        self.broker.change(|state| {
            if state.serves(self.number) {
                state.sever();
                state.calls.push(Call::Closed);
            }
        });
    }
}
