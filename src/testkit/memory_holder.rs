//! holder in memory: what each flow looks like is told, not fetched.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use super::weather::{Lot, Sky, pass};
use crate::domain::ids::{FlowId, VideoId};
use crate::gateways::holder::{Holder, Sight};

/// Shows what it was told to show; a flow that nothing was said of is not there. Clones share it.
#[derive(Clone, Default)]
pub struct MemoryHolder {
    inner: Arc<Mutex<Shown>>,
    sky: Sky,
}

#[derive(Default)]
struct Shown {
    sights: BTreeMap<String, Sight>,
    looks: usize,
    away: bool,
}

impl MemoryHolder {
    /// The same holder under another weather.
    #[must_use]
    pub fn under(&self, sky: Sky) -> Self {
        MemoryHolder { sky, ..self.clone() }
    }

    /// Takes holder away, or brings it back.
    pub fn set_away(&self, away: bool) {
        self.lock().away = away;
    }

    /// From now on a look at this flow shows this.
    pub fn show(&self, video: VideoId, flow: FlowId, sight: Sight) {
        self.lock().sights.insert(path(video, flow), sight);
    }

    /// The files of a flow arrive at a saving path (`/<video>/<flow>`).
    pub fn ship(&self, saving_path: &str, fingerprint: u64) {
        self.lock().sights.insert(saving_path.to_owned(), Sight::Whole { fingerprint });
    }

    /// How often anybody looked.
    pub fn looks(&self) -> usize {
        self.lock().looks
    }

    fn lock(&self) -> MutexGuard<'_, Shown> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn path(video: VideoId, flow: FlowId) -> String {
    format!("/{video}/{flow}")
}

#[async_trait(?Send)]
impl Holder for MemoryHolder {
    async fn look(&self, video: VideoId, flow: FlowId) -> Sight {
        let path = path(video, flow);
        let meeting = self.sky.go("holder.look", &path).await;
        pass(meeting.after).await;
        let mut shown = self.lock();
        shown.looks += 1;
        if shown.away || meeting.lot != Lot::Fair {
            return Sight::Unreachable("away".to_owned());
        }
        let nothing = || Sight::NotWhole("dash/manifest.mpd answered 404".to_owned());
        shown.sights.get(&path).cloned().unwrap_or_else(nothing)
    }
}
