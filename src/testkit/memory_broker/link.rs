//! The broker's side of each link, and the consumer's.

use std::collections::BTreeMap;

use async_trait::async_trait;

use super::{Call, MemoryBroker, Open, State};
use crate::domain::chunk::Field;
use crate::gateways::broker::{Broker, BrokerError, BrokerLink, LinkEvent, Published};
use crate::testkit::weather::{Lot, pass};
use crate::ticket::Reply;

impl State {
    fn sever(&mut self, link: u64) {
        let unsettled = self.links.remove(&link).map(|open| open.unsettled).unwrap_or_default();
        unsettled.into_values().rev().for_each(|delivery| self.queue.push_front(delivery));
    }

    pub(super) fn sever_all(&mut self) {
        let links: Vec<u64> = self.links.keys().rev().copied().collect();
        links.into_iter().for_each(|link| self.sever(link));
    }

    pub(super) fn sever_of(&mut self, consumer: usize) {
        let theirs = self.links.iter().filter(|(_, open)| open.consumer == consumer);
        let links: Vec<u64> = theirs.map(|(link, _)| *link).collect();
        links.into_iter().for_each(|link| self.sever(link));
    }

    fn connect(&mut self, consumer: usize) -> Result<u64, BrokerError> {
        if let Some(error) = self.refusals.pop_front() {
            return Err(error);
        }
        self.sever_of(consumer);
        self.last_link += 1;
        let open = Open { consumer, consuming: true, told_blocked: false, unsettled: BTreeMap::new() };
        self.links.insert(self.last_link, open);
        self.calls.push(Call::Connected);
        Ok(self.last_link)
    }

    fn next(&mut self, link: u64) -> Option<LinkEvent> {
        let Some(open) = self.links.get_mut(&link) else {
            return Some(LinkEvent::Lost(lost()));
        };
        if open.told_blocked != self.blocked {
            open.told_blocked = self.blocked;
            return Some(LinkEvent::Blocked(self.blocked));
        }
        if !open.consuming || open.unsettled.len() >= self.prefetch {
            return None;
        }
        let delivery = self.queue.pop_front()?;
        self.last_tag += 1;
        open.unsettled.insert(self.last_tag, delivery.clone());
        if let Field::Text(correlation) = &delivery.headers.correlation {
            *self.handed.entry(correlation.clone()).or_default() += 1;
        }
        Some(LinkEvent::Delivery { tag: self.last_tag, delivery })
    }

    fn publish(&mut self, link: u64, reply: &Reply) -> Option<Result<Published, BrokerError>> {
        if !self.links.contains_key(&link) {
            return Some(Err(lost()));
        }
        if self.blocked {
            return None;
        }
        if self.failing_publishes > 0 {
            self.failing_publishes -= 1;
            self.sever(link);
            return Some(Err(lost()));
        }
        if self.returns > 0 {
            self.returns -= 1;
            self.calls.push(Call::Returned(reply.clone()));
            return Some(Ok(Published::Returned));
        }
        self.calls.push(Call::Published(reply.clone()));
        self.fresh.push(reply.clone());
        Some(Ok(Published::Confirmed))
    }

    fn settle(&mut self, link: u64, tag: u64, call: Call) -> Result<(), BrokerError> {
        let open = self.links.get_mut(&link).ok_or_else(lost)?;
        let Some(delivery) = open.unsettled.remove(&tag) else {
            self.unknown_tags += 1;
            self.sever(link);
            return Err(BrokerError::Lost(format!("unknown delivery tag {tag}")));
        };
        if call == Call::GivenBack(tag) {
            self.queue.push_back(delivery);
        } else if self.blocked
            && let Field::Text(correlation) = delivery.headers.correlation
        {
            self.settled_under_alarm.insert(correlation);
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
        let meeting = self.sky.go("broker.connect", "").await;
        if meeting.lot != Lot::Fair {
            return Err(lost());
        }
        let number = self.change(|state| state.connect(self.consumer))?;
        Ok(Box::new(MemoryLink { broker: self.clone(), number }))
    }
}

struct MemoryLink {
    broker: MemoryBroker,
    number: u64,
}

impl MemoryLink {
    async fn when<T>(&self, mut attempt: impl FnMut(&mut State) -> Option<T>) -> T {
        let outcome = self.broker.changes.until(|| attempt(&mut self.broker.locked())).await;
        self.broker.changes.tell();
        outcome
    }

    /// A request on its way meets the weather; one that is lost takes the link with it.
    async fn meet<T>(
        &self,
        call: &'static str,
        of: &str,
        request: impl Future<Output = Result<T, BrokerError>>,
    ) -> Result<T, BrokerError> {
        let meeting = self.broker.sky.go(call, of).await;
        let outcome = match meeting.lot {
            Lot::Fair => request.await,
            Lot::After => request.await.and_then(|_| Err(lost())),
            Lot::Before | Lot::Late(_) | Lot::NotSent | Lot::Refused(_) | Lot::Panic => Err(lost()),
        };
        if meeting.lot != Lot::Fair {
            self.broker.change(|state| state.sever(self.number));
        }
        pass(meeting.after).await;
        outcome
    }

    async fn settle(&self, name: &'static str, tag: u64, call: Call) -> Result<(), BrokerError> {
        let settle = async { self.broker.change(|state| state.settle(self.number, tag, call)) };
        self.meet(name, "", settle).await
    }
}

impl Drop for MemoryLink {
    fn drop(&mut self) {
        self.broker.change(|state| state.sever(self.number));
    }
}

#[async_trait]
impl BrokerLink for MemoryLink {
    async fn next(&self) -> LinkEvent {
        let event = self.when(|state| state.next(self.number)).await;
        if matches!(event, LinkEvent::Delivery { .. }) {
            self.broker.sky.meet("broker.deliver", "");
        }
        event
    }

    async fn publish(&self, reply: &Reply) -> Result<Published, BrokerError> {
        let publish = self.when(|state| state.publish(self.number, reply));
        self.meet("broker.publish", reply.correlation.as_str(), publish).await
    }

    async fn declare(&self) -> Result<(), BrokerError> {
        self.broker.change(|state| state.calls.push(Call::Declared));
        Ok(())
    }

    async fn ack(&self, tag: u64) -> Result<(), BrokerError> {
        self.settle("broker.ack", tag, Call::Acked(tag)).await
    }

    async fn reject(&self, tag: u64) -> Result<(), BrokerError> {
        self.settle("broker.reject", tag, Call::Rejected(tag)).await
    }

    async fn give_back(&self, tag: u64) -> Result<(), BrokerError> {
        self.settle("broker.give_back", tag, Call::GivenBack(tag)).await
    }

    async fn consume(&self, on: bool) -> Result<(), BrokerError> {
        self.broker.change(|state| {
            state.links.entry(self.number).and_modify(|open| open.consuming = on);
            state.calls.push(Call::Consume(on));
        });
        Ok(())
    }

    async fn close(&self) {
        self.broker.change(|state| {
            if state.links.contains_key(&self.number) {
                state.sever(self.number);
                state.calls.push(Call::Closed);
            }
        });
    }
}
