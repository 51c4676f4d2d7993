//! The deliveries that were received and are not yet over, and the bytes that their bodies hold.

use std::collections::BTreeMap;

use tracing::Span;

use crate::clock;
use crate::domain::ids::Timestamp;
use crate::ticket::{DeliveryId, Reply};

/// How far a delivery has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Stage {
    /// Its ticket is out.
    Held,
    /// Its ticket is out, but its link is gone: the broker delivers it again.
    Stale,
    /// Its answer waits until the broker takes replies.
    Parked(Reply),
    /// Its answer waits for the broker's confirm.
    Publishing(Reply),
    /// It is acked, and its answer still waits for the confirm.
    Owed(Reply),
    /// It goes back to the broker in a moment.
    Returning,
    /// The broker is being told how it ended.
    Ending,
}

/// One delivery.
#[derive(Debug)]
pub(super) struct Open {
    pub stage: Stage,
    pub span: Span,
    /// When it came.
    pub since: Timestamp,
    bytes: u64,
}

/// What a lost link leaves behind.
#[derive(Debug, Default)]
pub(super) struct Forgotten {
    /// Answers of deliveries that were acked already, and when those came.
    pub owed: Vec<(Reply, Timestamp)>,
    /// When the deliveries came that the broker will deliver again.
    pub open: Vec<Timestamp>,
}

/// All of them. Bounded by the broker's prefetch, and once more by it after a link was lost.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    open: BTreeMap<DeliveryId, Open>,
    bytes: u64,
    /// How many of them are stale.
    stale: usize,
}

impl Ledger {
    /// A delivery came; its body has so many bytes.
    pub fn receive(&mut self, id: DeliveryId, bytes: u64, span: Span) {
        self.bytes += bytes;
        self.open.insert(id, Open { stage: Stage::Held, span, since: clock::now(), bytes });
    }

    /// A ticket ended and its body is free. `false`: the delivery is no longer ours to answer.
    pub fn settle(&mut self, id: DeliveryId) -> bool {
        let Some(open) = self.open.get_mut(&id) else { return false };
        self.bytes -= std::mem::take(&mut open.bytes);
        match open.stage {
            Stage::Held => true,
            Stage::Stale => {
                self.open.remove(&id);
                self.stale -= 1;
                false
            }
            Stage::Parked(_) | Stage::Publishing(_) | Stage::Owed(_) | Stage::Returning | Stage::Ending => {
                false
            }
        }
    }

    /// Moves a delivery on.
    pub fn set(&mut self, id: DeliveryId, stage: Stage) {
        if let Some(open) = self.open.get_mut(&id) {
            self.stale -= usize::from(open.stage == Stage::Stale);
            self.stale += usize::from(stage == Stage::Stale);
            open.stage = stage;
        }
    }

    /// A delivery, if it is still open.
    pub fn get(&self, id: DeliveryId) -> Option<&Open> {
        self.open.get(&id)
    }

    /// A delivery is over.
    pub fn close(&mut self, id: DeliveryId) -> Option<Open> {
        let open = self.open.remove(&id)?;
        self.bytes -= open.bytes;
        self.stale -= usize::from(open.stage == Stage::Stale);
        Some(open)
    }

    /// The link is gone: nothing on it can be answered.
    pub fn forget(&mut self) -> Forgotten {
        let mut forgotten = Forgotten::default();
        self.open.retain(|_, open| match &open.stage {
            Stage::Stale => true,
            Stage::Held => {
                open.stage = Stage::Stale;
                forgotten.open.push(open.since);
                true
            }
            Stage::Owed(reply) => {
                forgotten.owed.push((reply.clone(), open.since));
                false
            }
            Stage::Parked(_) | Stage::Publishing(_) | Stage::Returning | Stage::Ending => {
                forgotten.open.push(open.since);
                false
            }
        });
        // What is left is stale, all of it.
        self.stale = self.open.len();
        forgotten
    }

    /// Deliveries that are not over. Those of a link that is gone are: the broker delivers them again.
    pub fn in_flight(&self) -> usize {
        self.open.len() - self.stale
    }

    /// The deliveries that wait until the broker takes replies, oldest first.
    pub fn parked(&self) -> Vec<(DeliveryId, Reply)> {
        self.select(|stage| match stage {
            Stage::Parked(reply) => Some(reply.clone()),
            _ => None,
        })
    }

    /// The deliveries whose answers wait for a confirm, oldest first.
    pub fn publishing(&self) -> Vec<(DeliveryId, Reply)> {
        self.select(|stage| match stage {
            Stage::Publishing(reply) => Some(reply.clone()),
            _ => None,
        })
    }

    /// The deliveries that the broker still counts as ours, oldest first.
    pub fn unacked(&self) -> Vec<DeliveryId> {
        let unacked = self.select(|stage| match stage {
            Stage::Held | Stage::Parked(_) | Stage::Publishing(_) | Stage::Returning => Some(()),
            Stage::Stale | Stage::Owed(_) | Stage::Ending => None,
        });
        unacked.into_iter().map(|(id, ())| id).collect()
    }

    /// Whether nothing here has to be answered any more.
    pub fn is_settled(&self) -> bool {
        self.open.values().all(|open| open.stage == Stage::Stale)
    }

    /// Bytes that the bodies of unsettled deliveries hold.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    fn select<T>(&self, pick: impl Fn(&Stage) -> Option<T>) -> Vec<(DeliveryId, T)> {
        let mut picked: Vec<_> =
            self.open.iter().filter_map(|(id, open)| pick(&open.stage).map(|what| (*id, what))).collect();
        picked.sort_by_key(|(id, _)| *id);
        picked
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_flight_is_counted_rightly_whatever_becomes_of_it() {
        let mut ledger = Ledger::default();
        let check = |ledger: &Ledger, count| {
            let counted = ledger.open.values().filter(|open| open.stage != Stage::Stale).count();
            assert_eq!((ledger.in_flight(), counted), (count, count));
        };
        let id = |link, tag| DeliveryId { link, tag };
        (1..=4).for_each(|tag| ledger.receive(id(1, tag), 10, Span::none()));
        check(&ledger, 4);
        assert!(ledger.settle(id(1, 1)));
        ledger.set(id(1, 1), Stage::Ending);
        ledger.close(id(1, 1));
        check(&ledger, 3);
        assert!(ledger.settle(id(1, 2)));
        ledger.set(id(1, 2), Stage::Returning);
        ledger.forget();
        check(&ledger, 0);
        ledger.receive(id(2, 1), 10, Span::none());
        check(&ledger, 1);
        assert!(!ledger.settle(id(1, 3)), "it is not ours to answer any more");
        check(&ledger, 1);
        ledger.close(id(1, 4));
        ledger.forget();
        ledger.forget();
        check(&ledger, 0);
    }
}
