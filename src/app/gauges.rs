//! What is sampled while the service runs: no event tells of it.

use std::sync::Arc;

use crate::gateways::spool::Spool;
use crate::gateways::upload_store::chunks::ChunkStore;
use crate::metrics;

/// Samples are folded much more often than the spool is asked: the sum of what is reserved reads every open upload.
const SPOOL_EVERY: u32 = 6;

/// Whom to ask.
pub(super) struct Gauges {
    pub(super) spool: Arc<dyn Spool>,
    pub(super) chunks: Arc<dyn ChunkStore>,
    pub(super) quota_bytes: i64,
}

/// Samples for as long as it is not aborted. What cannot be read now keeps its last value.
pub(super) async fn keep(gauges: Gauges) {
    let mut round: u32 = 0;
    loop {
        if round.is_multiple_of(SPOOL_EVERY) {
            gauges.sample().await;
        }
        round = round.wrapping_add(1);
        metrics::upkeep();
        tokio::time::sleep(metrics::UPKEEP_EVERY).await;
    }
}

impl Gauges {
    async fn sample(&self) {
        if let Ok(volume) = self.spool.volume().await {
            metrics::spool_volume(self.quota_bytes, volume.total, volume.free);
        }
        if let Ok(reserved) = self.chunks.reserved().await {
            metrics::spool_reserved(reserved);
        }
    }
}
