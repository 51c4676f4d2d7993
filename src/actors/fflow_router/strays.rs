//! Ends the ffmpeg processes that nobody wants any more, a bounded number at a time.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use futures_util::{StreamExt, stream};
use tokio::time::{Instant, timeout};

use super::FflowRouter;
use crate::domain::route::{self, AllowList, FlowUrl};
use crate::gateways::fflow::{Fflow, FflowError};
use crate::gateways::upload_store::StoreError;
use crate::gateways::upload_store::farm::{FarmStore, Stray};
use crate::messages::Swept;

/// Strays looked at in one round.
const BATCH: u32 = 128;
/// Of them at once.
const AT_ONCE: usize = 4;
/// How long a round of the router's own lasts.
pub(super) const ROUND: Duration = Duration::from_secs(45);

/// When strays are swept, and when they are given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StrayRound {
    /// Between two rounds.
    pub interval: Duration,
    /// Older ones are tried once more and forgotten.
    pub max_age: Duration,
}

impl Default for StrayRound {
    /// Once a minute; a day.
    fn default() -> Self {
        StrayRound { interval: Duration::from_secs(60), max_age: Duration::from_secs(24 * 3600) }
    }
}

/// Everything that one round needs.
struct Sweeper {
    fflow: Rc<dyn Fflow>,
    farm: Arc<dyn FarmStore>,
    allowed: Rc<AllowList>,
    /// Asked beside all known replicas when a stray's own is unknown.
    default_base: String,
    delete_timeout: Duration,
    /// A create that was never answered may still arrive before this age.
    settled_after: Duration,
    max_age: Duration,
}

/// What one address said of a stray.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    /// It ran there and is ended.
    Ended,
    /// It does not run there.
    NotHere,
    /// Nothing that counts.
    Nothing,
}

impl FflowRouter {
    /// One round over some of the strays; an empty one while another is under way.
    pub(super) fn sweep(&mut self, until: Instant) -> ResponseActFuture<Self, Option<Swept>> {
        if self.sweeping {
            return Box::pin(actix::fut::ready(None));
        }
        self.sweeping = true;
        let sweeper = Sweeper {
            fflow: Rc::clone(&self.fflow),
            farm: Arc::clone(&self.farm),
            allowed: Rc::clone(&self.allowed),
            default_base: self.config.base_url.to_string(),
            delete_timeout: self.config.delete_timeout,
            settled_after: self.config.create_timeout * 6,
            max_age: self.stray_round.max_age,
        };
        Box::pin(async move { sweeper.sweep(until).await }.into_actor(self).map(|swept, router, _| {
            router.sweeping = false;
            Some(swept)
        }))
    }
}

impl Sweeper {
    /// One round. A database that is away ends it.
    async fn sweep(&self, until: Instant) -> Swept {
        match self.round(until).await {
            Ok(swept) => {
                tracing::debug!(swept.seen, swept.gone, "strays swept");
                swept
            }
            Err(error) => {
                tracing::debug!(%error, "strays cannot be swept now");
                Swept::default()
            }
        }
    }

    async fn round(&self, until: Instant) -> Result<Swept, StoreError> {
        let strays = self.farm.strays(BATCH).await?;
        if strays.is_empty() {
            return Ok(Swept::default());
        }
        let replicas = self.farm.known_replicas().await?;
        let rounds =
            stream::iter(&strays).map(|stray| self.one(stray, &replicas, until)).buffer_unordered(AT_ONCE);
        let outcomes: Vec<Result<bool, StoreError>> = rounds.collect().await;
        let seen = outcomes.len();
        let gone = outcomes.into_iter().filter_map(Result::ok).filter(|gone| *gone).count();
        Ok(Swept { seen, gone })
    }

    /// Whether this one is gone for good, and written down as that.
    async fn one(&self, stray: &Stray, replicas: &[String], until: Instant) -> Result<bool, StoreError> {
        let mut said = Vec::new();
        for url in self.addresses(stray, replicas) {
            if Instant::now() >= until {
                said.push(Said::Nothing);
                break;
            }
            said.push(self.delete(&url).await);
        }
        if !self.is_gone(stray, &said) {
            return Ok(false);
        }
        self.farm.stray_gone(&stray.name).await?;
        Ok(true)
    }

    fn is_gone(&self, stray: &Stray, said: &[Said]) -> bool {
        let answered = !said.is_empty() && !said.contains(&Said::Nothing);
        let settled =
            stray.base_url.is_some() || stray.age >= self.settled_after || said.contains(&Said::Ended);
        (answered && settled) || stray.age > self.max_age
    }

    /// Where a stray may run. One whose own replica lies outside the allowed origins is asked for nowhere.
    fn addresses(&self, stray: &Stray, replicas: &[String]) -> Vec<FlowUrl> {
        let bases: Vec<&str> = match &stray.base_url {
            Some(base) => vec![base],
            None => replicas.iter().map(String::as_str).chain([self.default_base.as_str()]).collect(),
        };
        let mut urls: Vec<FlowUrl> = bases
            .into_iter()
            .filter_map(|base| route::at_replica(base, &stray.name, &self.allowed))
            .collect();
        urls.sort();
        urls.dedup();
        urls
    }

    async fn delete(&self, url: &FlowUrl) -> Said {
        match timeout(self.delete_timeout, self.fflow.delete(url)).await {
            Ok(Ok(())) => Said::Ended,
            Ok(Err(FflowError::Status { status: 404, .. })) => Said::NotHere,
            Ok(Err(_)) | Err(_) => Said::Nothing,
        }
    }
}
