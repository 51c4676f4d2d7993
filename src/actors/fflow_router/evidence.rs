//! What the router has seen of the farm lately, in bounded memory.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::domain::ids::SessionId;
use crate::gateways::upload_store::farm::Worked;
use crate::messages::WorkedStep;

/// More replicas than any farm has: beyond it news is dropped.
const MOST_REPLICAS: usize = 1024;
/// A replica that was written down this lately is no news.
const FRESH: Duration = Duration::from_secs(60);

/// Steps that succeeded since they were last written down, by replica.
#[derive(Default)]
pub(super) struct Evidence(HashMap<String, Worked>);

impl Evidence {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn add(&mut self, base: &str, step: WorkedStep, session: SessionId) {
        let Some(worked) = self.entry(base) else { return };
        match step {
            WorkedStep::Push => worked.push = Some(session),
            WorkedStep::Finish => worked.finish = Some(session),
        }
    }

    /// Everything, in the order of the replicas.
    pub(super) fn take(&mut self) -> Vec<Worked> {
        let mut all: Vec<Worked> = self.0.drain().map(|(_, worked)| worked).collect();
        all.sort_by(|a, b| a.base.cmp(&b.base));
        all
    }

    /// What could not be written, unless there is newer.
    pub(super) fn put_back(&mut self, older: Vec<Worked>) {
        for old in older {
            let Some(worked) = self.entry(&old.base) else { continue };
            worked.push = worked.push.or(old.push);
            worked.finish = worked.finish.or(old.finish);
        }
    }

    fn entry(&mut self, base: &str) -> Option<&mut Worked> {
        if !self.0.contains_key(base) {
            if self.0.len() >= MOST_REPLICAS {
                return None;
            }
            self.0.insert(base.to_owned(), Worked { base: base.to_owned(), push: None, finish: None });
        }
        self.0.get_mut(base)
    }
}

/// The replicas written down lately.
#[derive(Default)]
pub(super) struct Seen(HashMap<String, Instant>);

impl Seen {
    /// Whether this replica is worth writing down, which it then is.
    pub(super) fn is_news(&mut self, base: &str) -> bool {
        let now = Instant::now();
        self.0.retain(|_, at| now.duration_since(*at) < FRESH);
        if self.0.contains_key(base) || self.0.len() >= MOST_REPLICAS {
            return false;
        }
        self.0.insert(base.to_owned(), now);
        true
    }

    /// It was not written down after all.
    pub(super) fn forget(&mut self, base: &str) {
        self.0.remove(base);
    }
}
