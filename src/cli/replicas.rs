//! `replicas`: the replicas of this service and of fflow.

use std::fmt;

use anyhow::Context;
use clap::{Args, Subcommand};
use serde::Serialize;

use super::Outcome;
use super::output::Output;
use crate::config::Config;
use crate::gateways::upload_store::overview::{FflowLine, Overview, OverviewStore, PgOverview, ReplicaLine};
use crate::gateways::upload_store::pool;

/// Look at the replicas of this service and of fflow.
#[derive(Args, Debug)]
pub struct Replicas {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Debug)]
enum What {
    /// List them: the living and, for an hour, the dead; and the fflow replicas with what last worked there.
    #[command(visible_alias = "list")]
    Ls,
}

#[derive(Serialize)]
struct Listed(Overview);

pub(super) async fn run(ask: &Replicas, config: &Config, output: Output) -> anyhow::Result<Outcome> {
    let What::Ls = ask.what;
    let db = pool::open(&config.database, 1).await.context("the database cannot be reached")?;
    output.print(&Listed(PgOverview::new(db).overview().await?))?;
    Ok(Outcome::Done)
}

impl fmt::Display for Listed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Listed(overview) = self;
        writeln!(
            f,
            "{:<20}  {:<36}  {:<5}  {:>8}  {:<9}  {:>7}  {:>5}",
            "UPLOADER", "ID", "LIVES", "LEASE", "CONSUMING", "UP", "FEEDS"
        )?;
        overview.replicas.iter().try_for_each(|replica| write_replica(f, replica))?;
        writeln!(f, "\n{:<48}  {:>9}  {:>9}  {:>11}", "FFLOW", "SEEN", "LAST PUSH", "LAST FINISH")?;
        overview.fflow.iter().try_for_each(|replica| write_fflow(f, replica))?;
        let spool = overview.spool_id.map_or_else(|| "none yet".to_owned(), |id| id.to_string());
        let consuming = overview
            .consuming_seconds
            .map_or_else(|| "never".to_owned(), |since| format!("for {}", span(since)));
        write!(
            f,
            "\nspool {spool}, schema version {}, consuming {consuming}, {} live sessions",
            overview.schema_version, overview.live_sessions
        )
    }
}

fn write_replica(f: &mut fmt::Formatter<'_>, replica: &ReplicaLine) -> fmt::Result {
    writeln!(
        f,
        "{:<20}  {:<36}  {:<5}  {:>8}  {:<9}  {:>7}  {:>5}",
        replica.name,
        replica.replica_id,
        if replica.alive { "yes" } else { "no" },
        format!("{:.0}s", replica.lease_seconds),
        if replica.consuming && replica.alive { "yes" } else { "no" },
        span(replica.age_seconds),
        replica.feeds,
    )
}

fn write_fflow(f: &mut fmt::Formatter<'_>, replica: &FflowLine) -> fmt::Result {
    let ago = |seconds: Option<f64>| {
        seconds.map_or_else(|| "never".to_owned(), |past| format!("{} ago", span(past)))
    };
    let (seen, push, finish) =
        (ago(Some(replica.seen_seconds)), ago(replica.push_seconds), ago(replica.finish_seconds));
    writeln!(f, "{:<48}  {seen:>9}  {push:>9}  {finish:>11}", replica.base_url)
}

/// In the largest unit that says enough.
fn span(seconds: f64) -> String {
    let seconds = seconds.max(0.0) as u64;
    match seconds {
        0..=119 => format!("{seconds}s"),
        120..=7199 => format!("{}m", seconds / 60),
        7200..=172_799 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}
