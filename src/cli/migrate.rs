//! `migrate`: the schema `uploader`.

use std::fmt;

use anyhow::Context;
use clap::Args;
use serde::Serialize;

use super::Outcome;
use super::output::Output;
use crate::config::Config;
use crate::gateways::upload_store::pool;

/// Make or update the schema `uploader`, and nothing else unless asked.
#[derive(Args, Debug)]
pub struct Migrate {
    /// Also make those of the shared tables that are absent.
    #[arg(long)]
    shared_tables: bool,
    /// Make their byte columns `bigint`: only where no gateway with an ORM synchronises them.
    #[arg(long, requires = "shared_tables")]
    bigint: bool,
}

#[derive(Serialize)]
struct Migrated {
    shared_tables: bool,
    before: String,
}

impl fmt::Display for Migrated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.shared_tables {
            writeln!(f, "the shared tables are there")?;
        }
        write!(f, "the schema uploader is up to date (it was: {})", self.before)
    }
}

pub(super) async fn run(ask: &Migrate, config: &Config, output: Output) -> anyhow::Result<Outcome> {
    let db = pool::open(&config.database, 1).await.context("the database cannot be reached")?;
    if ask.shared_tables {
        let columns =
            if ask.bigint { migration::ByteColumns::BigInt } else { migration::ByteColumns::Integer };
        migration::shared_tables(&db, columns).await?;
    }
    let before = migration::up(&db).await?;
    output.print(&Migrated { shared_tables: ask.shared_tables, before: format!("{before:?}") })?;
    Ok(Outcome::Done)
}
