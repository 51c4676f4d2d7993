//! This replica among its equals: heartbeat, lease, and the one spool they share.

use async_trait::async_trait;
use sea_orm::{ConnectionTrait, DatabaseConnection, DatabaseTransaction, Statement};
use uuid::Uuid;

use super::rows::get;
use super::sql::{self, statement};
use super::{StoreError, pool};
use crate::domain::ids::ReplicaId;
use crate::gateways::spool::{Spool, SpoolError};

/// What a heartbeat says.
#[derive(Debug, Clone)]
pub struct Heartbeat {
    /// Who.
    pub replica: ReplicaId,
    /// For people.
    pub name: String,
    /// Whether it takes chunks.
    pub consuming: bool,
    /// How long the others wait for the next one, in seconds.
    pub lease_seconds: f64,
}

impl Heartbeat {
    fn statement(&self) -> Statement {
        let values = [
            self.replica.0.into(),
            self.name.clone().into(),
            self.consuming.into(),
            self.lease_seconds.into(),
        ];
        statement(BEAT, values)
    }
}

/// What becomes of a spool directory at start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpoolClaim {
    /// Its marker is the one that all replicas use.
    Shared,
    /// It was empty and is the spool from now on.
    Adopted,
    /// The others use another one. A human must look.
    Foreign,
}

impl SpoolClaim {
    /// What a start comes to: the id that all replicas use, the marker in the directory, and whether a replica lives
    /// or a session has bytes. `Adopted` stands for an empty directory that may be.
    pub fn of(shared: Option<Uuid>, marker: Option<Uuid>, in_use: bool) -> Self {
        match (shared, marker) {
            (Some(shared), Some(marker)) if shared == marker => SpoolClaim::Shared,
            // A directory with another marker belongs to another installation, in use or not.
            (_, Some(_)) => SpoolClaim::Foreign,
            (Some(_), None) if in_use => SpoolClaim::Foreign,
            (_, None) => SpoolClaim::Adopted,
        }
    }
}

/// Keeps this replica's lease.
#[async_trait]
pub trait ReplicaStore: Send + Sync {
    /// Extends the lease. Also notes since when somebody has been consuming without a gap.
    async fn beat(&self, heartbeat: &Heartbeat) -> Result<(), StoreError>;
    /// Gives the lease up.
    async fn leave(&self, replica: ReplicaId) -> Result<(), StoreError>;
    /// Compares a spool directory's marker with the one that all replicas use, one replica at a time. An empty
    /// directory is adopted only while no replica lives and no session has bytes in the old one. The first heartbeat
    /// goes into the same transaction: whoever comes next sees that this replica lives.
    async fn claim_spool(&self, spool: &dyn Spool, first: &Heartbeat) -> Result<SpoolClaim, StoreError>;
}

/// [`ReplicaStore`] on PostgreSQL.
pub struct PgReplicaStore {
    db: DatabaseConnection,
}

impl PgReplicaStore {
    /// Uses `db`, a connection of its own, so that a busy pool cannot end the lease.
    pub fn new(db: DatabaseConnection) -> Self {
        PgReplicaStore { db }
    }

    /// The marker of the spool that all replicas use; `None` until the first one has adopted one.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn spool_id(&self) -> Result<Option<Uuid>, StoreError> {
        sql::within(async {
            let query = "SELECT spool_id FROM uploader.service WHERE id = 1";
            let row = self.db.query_one_raw(statement(query, [])).await?;
            row.map_or(Ok(None), |row| get(&row, "spool_id"))
        })
        .await
    }
}

#[async_trait]
impl ReplicaStore for PgReplicaStore {
    async fn beat(&self, heartbeat: &Heartbeat) -> Result<(), StoreError> {
        sql::within(async {
            let transaction = pool::begin(&self.db).await?;
            if heartbeat.consuming {
                transaction.execute_raw(statement(NOTE_CONSUMING, [])).await?;
            }
            transaction.execute_raw(heartbeat.statement()).await?;
            transaction.commit().await?;
            Ok(())
        })
        .await
    }

    async fn leave(&self, replica: ReplicaId) -> Result<(), StoreError> {
        sql::within(async {
            let delete = "DELETE FROM uploader.replica WHERE replica_id = $1";
            self.db.execute_raw(statement(delete, [replica.0.into()])).await?;
            Ok(())
        })
        .await
    }

    async fn claim_spool(&self, spool: &dyn Spool, first: &Heartbeat) -> Result<SpoolClaim, StoreError> {
        sql::within(async {
            let transaction = pool::begin(&self.db).await?;
            migration::lock(&transaction, migration::LOCK_DEADLINE)
                .await
                .map_err(|error| StoreError::Unavailable(error.to_string()))?;
            let claim = claim_spool(&transaction, spool).await?;
            if claim != SpoolClaim::Foreign {
                transaction.execute_raw(first.statement()).await?;
            }
            transaction.commit().await?;
            Ok(claim)
        })
        .await
    }
}

/// Consuming began anew unless another replica has been at it until now.
pub const NOTE_CONSUMING: &str = "UPDATE uploader.service SET consuming_since = clock_timestamp() \
     WHERE consuming_since IS NULL OR NOT EXISTS \
     (SELECT 1 FROM uploader.replica WHERE consuming AND lease_until > clock_timestamp())";

/// Extends a lease: `$1` replica, `$2` name, `$3` consuming, `$4` seconds.
pub const BEAT: &str = "INSERT INTO uploader.replica (replica_id, name, consuming, lease_until) \
     VALUES ($1, $2, $3, clock_timestamp() + make_interval(secs => $4)) \
     ON CONFLICT (replica_id) DO UPDATE SET consuming = excluded.consuming, lease_until = excluded.lease_until";

async fn claim_spool(transaction: &DatabaseTransaction, spool: &dyn Spool) -> Result<SpoolClaim, StoreError> {
    let query = "SELECT spool_id, \
         EXISTS (SELECT 1 FROM uploader.replica WHERE lease_until > clock_timestamp()) AS alive, \
         EXISTS (SELECT 1 FROM uploader.session WHERE state IN ('OPEN', 'SEALED')) AS bytes \
         FROM uploader.service WHERE id = 1";
    let row = transaction.query_one_raw(statement(query, [])).await?;
    let row =
        row.ok_or_else(|| StoreError::Refused("uploader.service has no row, run migrate".to_owned()))?;
    let shared: Option<Uuid> = get(&row, "spool_id")?;
    let in_use = get::<bool>(&row, "alive")? || get::<bool>(&row, "bytes")?;
    let marker = spool.marker().await.map_err(from_spool)?;
    match SpoolClaim::of(shared, marker, in_use) {
        SpoolClaim::Adopted => adopt(transaction, spool).await,
        claim => Ok(claim),
    }
}

/// The marker is written before the row: a crash in between leaves a marked directory that no row knows, and the
/// operator is told how to mend it; the other order would let two replicas believe in two spools.
async fn adopt(transaction: &DatabaseTransaction, spool: &dyn Spool) -> Result<SpoolClaim, StoreError> {
    let marker = Uuid::new_v4();
    spool.set_marker(marker).await.map_err(from_spool)?;
    let update = "UPDATE uploader.service SET spool_id = $1 WHERE id = 1";
    transaction.execute_raw(statement(update, [marker.into()])).await?;
    Ok(SpoolClaim::Adopted)
}

fn from_spool(error: SpoolError) -> StoreError {
    StoreError::Refused(error.to_string())
}
