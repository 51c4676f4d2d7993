//! Every byte is checked: what was answered `ack` is what PostgreSQL counts and what the sink was fed, in order.

use std::collections::HashMap;

use anyhow::{Context, bail};
use uuid::Uuid;

use super::content::Content;
use super::ground::Service;

/// Compares three books: the load's, PostgreSQL's and the sink's.
///
/// # Errors
/// When a byte is lost, doubled or out of its order; every figure of this run is void then.
pub(crate) async fn check(
    service: &Service,
    stored: &HashMap<Uuid, u64>,
    content: &Content,
    chunk: usize,
) -> anyhow::Result<()> {
    let committed = committed(service).await?;
    let fed = parse(&service.sink_tells("ledger").await?)?;
    for (session, &bytes) in stored {
        let counted = committed.get(session).copied().unwrap_or(0);
        if counted != bytes {
            bail!("VOID: {session} has {bytes} bytes answered, {counted} committed");
        }
        let (got, digest) = fed.get(session).copied().unwrap_or_default();
        if got != bytes {
            bail!("VOID: {session} has {bytes} bytes answered, {got} fed");
        }
        if digest != content.digest(*session, bytes, chunk) {
            bail!("VOID: the {bytes} bytes of {session} were fed in another order or changed");
        }
    }
    Ok(())
}

async fn committed(service: &Service) -> anyhow::Result<HashMap<Uuid, u64>> {
    let rows = service.query("SELECT session_id, committed FROM uploader.session", Vec::new()).await?;
    let of = |row: &sea_orm::QueryResult| -> anyhow::Result<(Uuid, u64)> {
        let bytes: i64 = row.try_get_by_index(1)?;
        Ok((row.try_get_by_index(0)?, u64::try_from(bytes)?))
    };
    rows.iter().map(of).collect()
}

fn parse(ledger: &str) -> anyhow::Result<HashMap<Uuid, (u64, u128)>> {
    let line = |line: &str| {
        let mut words = line.split(' ');
        let session = words.next()?.parse().ok()?;
        let bytes = words.next()?.parse().ok()?;
        Some((session, (bytes, u128::from_str_radix(words.next()?, 16).ok()?)))
    };
    ledger.lines().map(|text| line(text).with_context(|| format!("a strange ledger: {text}"))).collect()
}
