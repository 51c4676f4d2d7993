//! Figures beside the matrix, one file each.

mod idle;
mod lag;
mod ready;
mod replay;
mod replicas;
mod stalled;

use anyhow::bail;
use serde_json::Value;

use super::ground::Ground;
use super::plan::Pace;

/// Measures the special of this name on servers of its own.
///
/// # Errors
/// When something cannot be started, or a byte is not where it should be.
pub(crate) async fn measure(name: &str, pace: Pace) -> anyhow::Result<Value> {
    let ground = Ground::start().await?;
    match name {
        "ready" => ready::measure(&ground).await,
        "idle" => idle::measure(&ground).await,
        "stalled" => stalled::measure(&ground, pace).await,
        "lag" => lag::measure(&ground, pace).await,
        "replay" => replay::measure(&ground).await,
        "replicas" => replicas::measure(&ground, pace).await,
        _ => bail!("nothing to measure is called {name}"),
    }
}
