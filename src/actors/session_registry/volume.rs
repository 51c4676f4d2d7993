//! Looking out for room on a full volume.

use std::time::Duration;

use actix::prelude::*;

use super::SessionRegistry;
use crate::clock;
use crate::readiness::{Dependency, State};

/// Pause between two looks at a full volume.
const PROBE_EVERY: Duration = Duration::from_secs(1);
/// Free bytes at which a full volume takes chunks again: some of the largest.
const ROOM_BYTES: u64 = 64 << 20;

impl SessionRegistry {
    /// A full volume stops consuming, so no append will tell when there is room again: look once a second.
    pub(super) fn probe_volume(&mut self, ctx: &mut Context<Self>) {
        let now = clock::now();
        let due = self.probed.until(now) >= PROBE_EVERY && self.parts.readiness.spool_is_full();
        if !due {
            return;
        }
        self.probed = now;
        let spool = self.parts.spool.clone();
        let probe = async move { spool.volume().await };
        ctx.spawn(probe.into_actor(self).map(|volume, registry, _| {
            if volume.is_ok_and(|volume| volume.free >= ROOM_BYTES) {
                registry.parts.readiness.set(Dependency::Spool, State::Up);
            }
        }));
    }
}
