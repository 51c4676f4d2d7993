//! The spool: there, writable, the one that all replicas use, with room.

use indicatif::HumanBytes;

use super::Item;
use crate::config::{Config, SpoolLimit};
use crate::gateways::spool::{FileSpool, Spool, Volume};
use crate::gateways::upload_store::overview::Overview;

const SPOOL: &str = "spool";

pub(super) async fn check(config: &Config, overview: Option<&Overview>) -> Vec<Item> {
    let dir = config.spool.dir.display();
    let spool = FileSpool::new(&config.spool.dir);
    if !config.spool.dir.is_dir() {
        let mend = "mount the shared volume there, or set UPLOADER_SPOOL_DIR to it";
        return vec![Item::wrong(SPOOL, format!("{dir} is no folder"), mend)];
    }
    if let Err(error) = spool.writable().await {
        let mend = "give the service's user the rights to read and write it";
        return vec![Item::wrong(SPOOL, format!("{dir}: {error}"), mend)];
    }
    let mut items = vec![marker(&spool, config, overview).await];
    items.push(match spool.volume().await {
        Ok(volume) => room(config, volume),
        Err(error) => Item::wrong(SPOOL, error.to_string(), "see that its volume is mounted"),
    });
    items
}

async fn marker(spool: &FileSpool, config: &Config, overview: Option<&Overview>) -> Item {
    let dir = config.spool.dir.display();
    let mount = "mount the volume that the other replicas use, or set UPLOADER_SPOOL_DIR to it";
    let marker = match spool.marker().await {
        Ok(marker) => marker,
        Err(error) => return Item::wrong(SPOOL, format!("{dir}: {error}"), mount),
    };
    let Some(overview) = overview else {
        return Item::skipped(SPOOL, format!("{dir}: no database to compare its marker with"));
    };
    let in_use = overview.live_sessions > 0 || overview.replicas.iter().any(|replica| replica.alive);
    match (marker, overview.spool_id) {
        (Some(here), Some(shared)) if here == shared => {
            Item::ok(SPOOL, format!("{dir} is the shared one ({here})"))
        }
        (Some(here), _) => Item::wrong(SPOOL, format!("{dir} is another installation's ({here})"), mount),
        (None, Some(shared)) if in_use => {
            Item::wrong(SPOOL, format!("{dir} is empty, the uploads under way are in spool {shared}"), mount)
        }
        (None, _) => Item::ok(SPOOL, format!("{dir} is empty, the first replica makes it the spool")),
    }
}

fn room(config: &Config, volume: Volume) -> Item {
    let quota = match config.spool.max_bytes {
        SpoolLimit::Bytes(bytes) => bytes,
        SpoolLimit::VolumeShare(share) => (volume.total as f64 * share) as u64,
    };
    let found = format!(
        "{} free of {}, uploads may reserve {}",
        HumanBytes(volume.free),
        HumanBytes(volume.total),
        HumanBytes(quota)
    );
    if quota > volume.total {
        return Item::warning(SPOOL, found, "set UPLOADER_SPOOL_MAX_BYTES to what the volume can hold");
    }
    Item::ok(SPOOL, found)
}
