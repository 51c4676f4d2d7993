//! `replicas`: the replicas of this service and of fflow.

mod text;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};

use super::Outcome;
use super::output::Output;
use crate::config::Config;
use crate::gateways::upload_store::survey::PgSurvey;
use crate::gateways::upload_store::{overview, pool};

/// Look at the replicas of this service and of fflow.
#[derive(Args, Debug)]
pub struct Replicas {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Debug)]
enum What {
    /// List the replicas of this service, alive and dead, and those of fflow that they met.
    ///
    /// A replica is alive while its lease holds; one that leaves in good order is gone from the list, one that dies
    /// stays in it for an hour. Its feeds are taken over by the others when its lease is over.
    #[command(visible_alias = "list")]
    Ls,
}

pub(super) async fn run(ask: &Replicas, config: &Config, output: Output) -> anyhow::Result<Outcome> {
    let What::Ls = ask.what;
    let db = pool::open(&config.database, 1).await.context("the database cannot be reached")?;
    let schema = PgSurvey::new(db.clone()).schema().await?;
    if !schema.is_usable() {
        bail!("the schema uploader is {schema:?}: run `uploader-v4 migrate`");
    }
    output.print(&overview::read(&db).await?)?;
    Ok(Outcome::Done)
}
