//! The replicas' store in memory.

use std::time::Duration;

use async_trait::async_trait;
use uuid::Uuid;

use super::{Call, MemoryStore, Row};
use crate::clock;
use crate::domain::ids::ReplicaId;
use crate::gateways::spool::Spool;
use crate::gateways::upload_store::StoreError;
use crate::gateways::upload_store::replicas::{Heartbeat, ReplicaStore, SpoolClaim};

#[async_trait]
impl ReplicaStore for MemoryStore {
    async fn beat(&self, heartbeat: &Heartbeat) -> Result<(), StoreError> {
        self.meet(Call::Beat, |tables| {
            let lease = Duration::from_secs_f64(heartbeat.lease_seconds);
            if heartbeat.consuming {
                let going_on = tables.consumed();
                let since = tables.consuming_since.filter(|_| going_on);
                tables.consuming_since = Some(since.unwrap_or_else(clock::now));
            }
            tables.consuming.insert(heartbeat.replica, heartbeat.consuming);
            tables.leases.insert(heartbeat.replica, clock::now().after(lease));
            Ok(())
        })
        .await
    }

    async fn leave(&self, replica: ReplicaId) -> Result<(), StoreError> {
        self.meet(Call::Leave, |tables| {
            tables.leases.remove(&replica);
            Ok(())
        })
        .await
    }

    async fn claim_spool(&self, spool: &dyn Spool, first: &Heartbeat) -> Result<SpoolClaim, StoreError> {
        let refused = |error: crate::gateways::spool::SpoolError| StoreError::Refused(error.to_string());
        let marker = spool.marker().await.map_err(refused)?;
        let claim = self
            .meet(Call::ClaimSpool, |tables| {
                let in_use = tables.leases.keys().any(|replica| tables.lives(*replica))
                    || tables.sessions.values().any(Row::is_live);
                Ok(match (tables.spool, marker) {
                    (Some(shared), Some(marker)) if shared == marker => SpoolClaim::Shared,
                    (_, Some(_)) => SpoolClaim::Foreign,
                    (Some(_), None) if in_use => SpoolClaim::Foreign,
                    (_, None) => SpoolClaim::Adopted,
                })
            })
            .await?;
        if claim != SpoolClaim::Foreign {
            self.beat(first).await?;
        }
        if claim == SpoolClaim::Adopted {
            let marker = Uuid::new_v4();
            spool.set_marker(marker).await.map_err(refused)?;
            self.change(|tables| tables.spool = Some(marker));
        }
        Ok(claim)
    }
}
