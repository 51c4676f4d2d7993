//! How deliveries end at the broker: what is acked within one turn of the event loop shares as few frames as can be, which
//! spares the broker's channel and queue, and the connection's thread, most of their work for acks.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use lapin::Channel;
use lapin::options::{BasicAckOptions, BasicNackOptions, BasicRejectOptions};
use tokio::sync::Mutex as AsyncMutex;

use super::BrokerError;
use super::connection::in_time;

/// Settles the deliveries of one channel.
pub(super) struct Settler {
    channel: Channel,
    tags: Mutex<Tags>,
    sending: AsyncMutex<()>,
}

impl Settler {
    pub fn new(channel: Channel) -> Self {
        Settler { channel, tags: Mutex::default(), sending: AsyncMutex::new(()) }
    }

    /// A delivery is here. They are told of in their order, each before it can be settled.
    pub fn delivered(&self, tag: u64) {
        self.tags().delivered(tag);
    }

    /// Returns when the ack was sent, alone or with others.
    pub async fn ack(&self, tag: u64) -> Result<(), BrokerError> {
        self.tags().due.insert(tag);
        tokio::task::yield_now().await;
        let _sending = self.sending.lock().await;
        if self.tags().is_lost {
            return Err(BrokerError::Lost("acks cannot be sent".to_owned()));
        }
        let frames = self.tags().take();
        // Whoever is dropped or fails in between leaves it so: what others wait for was not sent.
        self.tags().is_lost = true;
        for Frame { tag, multiple } in frames {
            in_time(self.channel.basic_ack(tag, BasicAckOptions { multiple })).await?;
        }
        self.tags().is_lost = false;
        Ok(())
    }

    pub async fn reject(&self, tag: u64) -> Result<(), BrokerError> {
        in_time(self.channel.basic_reject(tag, BasicRejectOptions { requeue: false })).await?;
        self.tags().open.remove(&tag);
        Ok(())
    }

    pub async fn give_back(&self, tag: u64) -> Result<(), BrokerError> {
        let options = BasicNackOptions { requeue: true, ..BasicNackOptions::default() };
        in_time(self.channel.basic_nack(tag, options)).await?;
        self.tags().open.remove(&tag);
        Ok(())
    }

    fn tags(&self) -> MutexGuard<'_, Tags> {
        self.tags.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An ack of one delivery, or of all up to it that are not settled yet.
#[derive(Debug, PartialEq, Eq)]
struct Frame {
    tag: u64,
    multiple: bool,
}

/// Delivery tags of a channel.
#[derive(Debug, Default)]
struct Tags {
    /// Not settled: of these the broker would take each below a multiple ack for acked.
    open: BTreeSet<u64>,
    /// To be acked.
    due: BTreeSet<u64>,
    /// The highest that was delivered.
    last: u64,
    is_lost: bool,
}

impl Tags {
    /// Tags count up by one: what the client has swallowed is open too, and is not acked with others.
    fn delivered(&mut self, tag: u64) {
        self.open.extend(self.last + 1..=tag);
        self.last = self.last.max(tag);
    }

    /// What acks everything that is due and nothing else: one frame for all before the first that is not due, and one for
    /// each behind it.
    fn take(&mut self) -> Vec<Frame> {
        let mut due = std::mem::take(&mut self.due);
        let first_kept = self.open.iter().find(|tag| !due.contains(tag)).copied();
        let behind = first_kept.map_or_else(BTreeSet::new, |kept| due.split_off(&kept));
        let before = due.last().map(|last| Frame { tag: *last, multiple: due.len() > 1 });
        self.open.retain(|tag| !due.contains(tag) && !behind.contains(tag));
        before.into_iter().chain(behind.into_iter().map(|tag| Frame { tag, multiple: false })).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(open: impl IntoIterator<Item = u64>, due: impl IntoIterator<Item = u64>) -> Tags {
        Tags { open: open.into_iter().collect(), due: due.into_iter().collect(), ..Tags::default() }
    }

    fn single(tag: u64) -> Frame {
        Frame { tag, multiple: false }
    }

    #[test]
    fn what_is_due_in_a_row_is_one_frame() {
        let mut tags = tags(1..=5, 1..=4);
        assert_eq!(tags.take(), [Frame { tag: 4, multiple: true }]);
        assert_eq!(tags.open, BTreeSet::from([5]));
        assert_eq!(tags.take(), []);
    }

    #[test]
    fn nothing_behind_a_delivery_that_is_held_is_acked_with_others() {
        let mut tags = tags(1..=6, [1, 2, 4, 5]);
        assert_eq!(tags.take(), [Frame { tag: 2, multiple: true }, single(4), single(5)]);
        assert_eq!(tags.open, BTreeSet::from([3, 6]));
        tags.due.extend([3, 6]);
        assert_eq!(tags.take(), [Frame { tag: 6, multiple: true }]);
    }

    #[test]
    fn one_alone_is_acked_alone() {
        let mut tags = tags([7, 8], [7]);
        assert_eq!(tags.take(), [single(7)]);
        tags.due.insert(8);
        tags.open.insert(9);
        assert_eq!(tags.take(), [single(8)]);
    }

    #[test]
    fn a_delivery_that_never_came_is_not_acked_with_others() {
        let mut tags = Tags::default();
        [1, 2, 4].into_iter().for_each(|tag| tags.delivered(tag));
        tags.due.extend([1, 2, 4]);
        assert_eq!(tags.take(), [Frame { tag: 2, multiple: true }, single(4)]);
        assert_eq!(tags.open, BTreeSet::from([3]));
    }

    #[test]
    fn any_mixture_acks_exactly_what_is_due() {
        let mut rng = fastrand::Rng::with_seed(1);
        for _ in 0..1_000 {
            let open: BTreeSet<u64> = (1..20).filter(|_| rng.bool()).collect();
            let due: BTreeSet<u64> = open.iter().copied().filter(|_| rng.bool()).collect();
            let mut acked = BTreeSet::new();
            for frame in tags(open.clone(), due.clone()).take() {
                let covered = open
                    .iter()
                    .filter(|tag| if frame.multiple { **tag <= frame.tag } else { **tag == frame.tag });
                acked.extend(covered.copied());
            }
            assert_eq!(acked, due, "open {open:?}");
        }
    }
}
