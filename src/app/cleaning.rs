//! Cleaning: the janitor beside the lines, one run of it alone, and a look at what it would do.

use std::sync::Arc;

use actix::prelude::*;
use anyhow::{Context as _, anyhow};
use sea_orm::DatabaseConnection;
use serde::Serialize;
use uuid::Uuid;

use super::foundation::{Foundation, Stores};
use super::lines;
use crate::actors::fflow_router::FflowRouter;
use crate::actors::janitor_scheduler::{JanitorParts, JanitorScheduler};
use crate::actors::session_registry::SessionRegistry;
use crate::config::Config;
use crate::domain::ids::{ReplicaId, SessionId};
use crate::gateways::route_store::RedisRoutes;
use crate::gateways::spool::{FileSpool, Spool};
use crate::gateways::upload_store::cleaning::{Listed, PgPreview, Preview, Terms};
use crate::gateways::upload_store::pool;
use crate::gateways::upload_store::replicas::PgReplicaStore;
use crate::messages::{JanitorReport, RunOnce, SessionAdvanced};
use crate::readiness::Readiness;

/// Connections of a run alone: its transactions, its searches, and the router's.
const CONNECTIONS: u32 = 4;
/// Folders of the spool listed, and judged, at once.
const FOLDERS: usize = 10_000;
const JUDGED: usize = 1_000;

/// Why nothing was cleaned.
#[derive(Debug, thiserror::Error)]
pub enum CannotClean {
    /// It would do harm here: another spool, or another version of the schema.
    #[error("{0}")]
    Refused(String),
    /// Something that it needs is away.
    #[error(transparent)]
    Failed(#[from] anyhow::Error),
}

/// What the janitor works with, wherever it runs.
pub(super) fn janitor_parts(
    foundation: &Foundation,
    registry: &Addr<SessionRegistry>,
    router: &Addr<FflowRouter>,
) -> JanitorParts {
    JanitorParts {
        store: foundation.stores.cleaning.clone(),
        spool: foundation.spool.clone(),
        expire: registry.clone().recipient(),
        drop_flow: router.clone().recipient(),
        sweep: router.clone().recipient(),
        config: foundation.config.janitor.clone(),
        readiness: foundation.readiness.clone(),
    }
}

/// Runs the janitor once, with the actors that `serve` gives it, but as no replica: without consuming, feeding, a
/// heartbeat, or a claim to the spool.
///
/// # Errors
/// [`CannotClean`]; what goes wrong once it runs is in the report.
pub async fn clean_once(config: Config) -> Result<JanitorReport, CannotClean> {
    let (foundation, _) = foundation(config).await?;
    let router = lines::router(&foundation);
    let registry = lines::registry(&foundation, NoFeeds.start().recipient());
    let janitor = JanitorScheduler::still(janitor_parts(&foundation, &registry, &router)).start();
    janitor.send(RunOnce).await.map_err(|error| anyhow!("the janitor ended: {error}").into())
}

/// Nobody advances a session where nothing is consumed.
struct NoFeeds;

impl Actor for NoFeeds {
    type Context = Context<Self>;
}

impl Handler<SessionAdvanced> for NoFeeds {
    type Result = ();

    fn handle(&mut self, _: SessionAdvanced, _: &mut Self::Context) {}
}

/// What a run of the janitor would do now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Forecast {
    /// What the database says.
    #[serde(flatten)]
    pub preview: Preview,
    /// Folders of the spool without rows, or of sessions that were cleaned before.
    pub folders: Listed<Uuid>,
}

/// Looks at everything and changes nothing; each list shows `limit` entries at most.
///
/// # Errors
/// [`CannotClean`]
pub async fn forecast(config: Config, limit: u32) -> Result<Forecast, CannotClean> {
    let (video_ttl, tombstone_ttl) = (config.janitor.video_ttl, config.janitor.tombstone_ttl);
    let (foundation, db) = foundation(config).await?;
    let look = PgPreview::new(db);
    let preview = look.look(Terms { video_ttl, tombstone_ttl, limit }).await.context("the database")?;
    let folders = folders(&look, foundation.spool.as_ref(), limit as usize).await?;
    Ok(Forecast { preview, folders })
}

async fn folders(look: &PgPreview, spool: &dyn Spool, limit: usize) -> anyhow::Result<Listed<Uuid>> {
    let mut doomed = Listed { count: 0, first: Vec::new() };
    let mut after: Option<SessionId> = None;
    loop {
        let page = spool.folders(after, FOLDERS).await.context("the spool")?;
        for folders in page.chunks(JUDGED) {
            let judged = look.judge_folders(folders).await.context("the database")?;
            let mut found: Vec<Uuid> =
                judged.buried.into_iter().chain(judged.late).map(|session| session.0).collect();
            found.sort();
            doomed.count += found.len() as u64;
            let room = limit - doomed.first.len();
            doomed.first.extend(found.into_iter().take(room));
        }
        after = page.last().copied();
        if page.len() < FOLDERS {
            return Ok(doomed);
        }
    }
}

/// What `serve` stands on, looked at and not changed.
async fn foundation(config: Config) -> Result<(Foundation, DatabaseConnection), CannotClean> {
    let db = pool::open(&config.database, CONNECTIONS).await.context("the database cannot be reached")?;
    let schema = migration::check(&db).await.context("the schema uploader cannot be read")?;
    if !schema.is_usable() {
        let refusal =
            format!("the schema uploader is {schema:?}: run `uploader-v4 migrate` of the newest version");
        return Err(CannotClean::Refused(refusal));
    }
    let missing = migration::shared_tables_present(&db).await.context("the shared tables cannot be read")?;
    if !missing.is_empty() {
        return Err(CannotClean::Refused(format!("there is no table {}", missing.join(", "))));
    }
    let replicas = PgReplicaStore::new(db.clone());
    let spool: Arc<dyn Spool> = Arc::new(FileSpool::new(&config.spool.dir));
    same_spool(&config, &replicas, spool.as_ref()).await?;
    let routes = Arc::new(RedisRoutes::new(&config.redis).map_err(anyhow::Error::from)?);
    let (readiness, me) = (Readiness::new(), ReplicaId(Uuid::new_v4()));
    let stores = Stores::new(&db, db.clone(), db.clone());
    Ok((Foundation::new(config, readiness, me, stores, routes, spool, 0), db))
}

/// In another spool every folder would look like one that nobody needs.
async fn same_spool(
    config: &Config,
    replicas: &PgReplicaStore,
    spool: &dyn Spool,
) -> Result<(), CannotClean> {
    let shared = replicas.spool_id().await.context("the database")?;
    let marker = spool.marker().await.context("the spool")?;
    if shared.is_some() && shared == marker {
        return Ok(());
    }
    let dir = config.spool.dir.display();
    Err(CannotClean::Refused(format!(
        "{dir} is not the spool that the replicas use (its marker spool-id is absent or another one): mount the \
         shared volume there, or set UPLOADER_SPOOL_DIR to it"
    )))
}
