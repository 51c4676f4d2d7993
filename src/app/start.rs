//! What must be there before the first actor: database, schema, shared tables, spool.

use std::future::Future;
use std::sync::Arc;

use anyhow::{Context, bail};
use migration::{MigrationError, SCHEMA_VERSION, SchemaState};
use sea_orm::{DatabaseConnection, DbErr};
use tracing::{info, warn};
use uuid::Uuid;

use super::START_PAUSE;
use super::foundation::{Foundation, Stores};
use crate::config::{Config, SpoolLimit};
use crate::domain::ids::ReplicaId;
use crate::fault::{Classified, Fault};
use crate::gateways::route_store::RedisRoutes;
use crate::gateways::spool::{FileSpool, Spool, open_files, volume};
use crate::gateways::upload_store::replicas::{Heartbeat, ReplicaStore, SpoolClaim};
use crate::gateways::upload_store::{StoreError, pool};
use crate::readiness::{Dependency, Readiness, State};

/// The chunk road reads, extends and commits at the same time, one of each.
const CHUNK_CONNECTIONS: u32 = 3;

/// Waits for what may come, fails on what never will.
pub(super) async fn foundation(config: Config, readiness: Readiness) -> anyhow::Result<Foundation> {
    let me = ReplicaId(Uuid::new_v4());
    let routes = Arc::new(RedisRoutes::new(&config.redis)?);
    let db = connect(&config, config.database.pool, &readiness).await;
    schema(&config, &db, &readiness).await?;
    readiness.set(Dependency::Database, State::Up);
    shared_tables(&db, &readiness).await;
    let heartbeat = connect(&config, 1, &readiness).await;
    let chunks = || pool::open_planned_once(&config.database, CHUNK_CONNECTIONS);
    let chunks = until_done(&readiness, Dependency::Database, chunks).await;
    let stores = Stores::new(&db, chunks, heartbeat);
    let spool = open_spool(&config).await?;
    claim_spool(&config, me, stores.replicas.as_ref(), spool.as_ref()).await?;
    let recovering = "the journals of processes that are gone are being settled";
    readiness.set(Dependency::Spool, State::Down(recovering.to_owned()));
    if let Err(error) = spool.recover().await {
        warn!(%error, "the journals of processes that are gone cannot be settled, reads that lack bytes try again");
    }
    readiness.set(Dependency::Spool, State::Up);
    let quota_bytes = quota(&config, spool.as_ref()).await?;
    if config.holder.base_url.is_none() {
        warn!("UPLOADER_HOLDER_BASE_URL is not set: fflow's word is believed when it reports a finish");
    }
    info!(replica = %me, name = %config.replica.name, quota_bytes, "starting");
    Ok(Foundation::new(config, readiness, me, stores, routes, spool, quota_bytes))
}

/// A journal has its place beside what sessions reserve: on a small volume it is small.
async fn open_spool(config: &Config) -> anyhow::Result<Arc<dyn Spool>> {
    const SHARE_OF_VOLUME: u64 = 64;
    let dir = &config.spool.dir;
    std::fs::create_dir_all(dir).with_context(|| {
        let dir = dir.display();
        format!("UPLOADER_SPOOL_DIR: {dir} cannot be made, set it to a folder that can be written")
    })?;
    let journal_bytes = if volume::of_one_kernel(dir)? {
        config.spool.journal_bytes.min(FileSpool::new(dir).volume().await?.total / SHARE_OF_VOLUME)
    } else {
        info!("no journal: hosts may share this volume, and what is not synced only one of them sees");
        0
    };
    Ok(Arc::new(FileSpool::with(dir, open_files::claim()?, journal_bytes)))
}

async fn connect(config: &Config, connections: u32, readiness: &Readiness) -> DatabaseConnection {
    until_done(readiness, Dependency::Database, || pool::open(&config.database, connections)).await
}

/// Tries for as long as it takes; the board says why it is not ready.
async fn until_done<T, E, F>(readiness: &Readiness, dependency: Dependency, work: impl Fn() -> F) -> T
where
    E: std::fmt::Display,
    F: Future<Output = Result<T, E>>,
{
    loop {
        match work().await {
            Ok(value) => return value,
            Err(error) => readiness.set(dependency, State::Down(error.to_string())),
        }
        tokio::time::sleep(START_PAUSE).await;
    }
}

/// A database that goes away meanwhile is waited for, like one that is absent.
async fn schema(config: &Config, db: &DatabaseConnection, readiness: &Readiness) -> anyhow::Result<()> {
    let state = loop {
        let state = if config.database.migrate {
            migration::up(db).await.map(|_| SchemaState::Current)
        } else {
            migration::check(db).await.map_err(MigrationError::from)
        };
        let error = match state {
            Ok(state) => break state,
            Err(MigrationError::Database(error @ (DbErr::Migration(_) | DbErr::Custom(_)))) => {
                return Err(error).context("the schema uploader cannot be made");
            }
            Err(MigrationError::Database(error)) => StoreError::from(error),
            Err(error) => return Err(error).context("the schema uploader cannot be made"),
        };
        if error.fault() != Fault::Transient {
            return Err(error).context("the schema uploader cannot be made or read");
        }
        readiness.set(Dependency::Database, State::Down(error.to_string()));
        tokio::time::sleep(START_PAUSE).await;
    };
    let mend = match state {
        SchemaState::Current | SchemaState::Newer { .. } => return Ok(()),
        SchemaState::Absent | SchemaState::Older { .. } => "run `uploader-v4 migrate`",
        SchemaState::TooNew { .. } => "it is not taken back, run a newer version of this program",
    };
    bail!("the schema uploader is {state:?}, this program makes version {SCHEMA_VERSION}: {mend}");
}

async fn shared_tables(db: &DatabaseConnection, readiness: &Readiness) {
    let look = || async {
        let missing = migration::shared_tables_present(db).await.map_err(|error| error.to_string())?;
        if missing.is_empty() {
            return Ok(());
        }
        Err(format!("waiting for {}: gateway makes them, or `migrate --shared-tables`", missing.join(", ")))
    };
    until_done(readiness, Dependency::SharedTables, look).await;
    readiness.set(Dependency::SharedTables, State::Up);
}

async fn claim_spool(
    config: &Config,
    me: ReplicaId,
    replicas: &dyn ReplicaStore,
    spool: &dyn Spool,
) -> anyhow::Result<()> {
    let dir = config.spool.dir.display();
    let first = Heartbeat {
        replica: me,
        name: config.replica.name.clone(),
        consuming: false,
        lease_seconds: config.replica.lease.as_secs_f64(),
    };
    let unusable = || format!("the spool {dir} cannot be used");
    let claim = loop {
        match replicas.claim_spool(spool, &first).await {
            Err(error) if error.fault() == Fault::Transient => {
                warn!(%error, "the spool cannot be compared yet")
            }
            outcome => break outcome.with_context(unusable)?,
        }
        tokio::time::sleep(START_PAUSE).await;
    };
    match claim {
        SpoolClaim::Shared => Ok(()),
        SpoolClaim::Adopted => {
            info!(%dir, "this empty folder is the spool from now on");
            Ok(())
        }
        SpoolClaim::Foreign => bail!(
            "{dir} is not the spool that the other replicas use (its marker spool-id is another one, or it is empty \
             while uploads are under way): mount the shared volume there, or set UPLOADER_SPOOL_DIR to it"
        ),
    }
}

async fn quota(config: &Config, spool: &dyn Spool) -> anyhow::Result<i64> {
    let bytes = match config.spool.max_bytes {
        SpoolLimit::Bytes(bytes) => bytes,
        SpoolLimit::VolumeShare(share) => (spool.volume().await?.total as f64 * share) as u64,
    };
    Ok(i64::try_from(bytes).unwrap_or(i64::MAX))
}
