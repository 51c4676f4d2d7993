//! The spool: can it be written, is it the one that all replicas share, and is there room?

use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

use indicatif::HumanBytes;
use uuid::Uuid;

use super::report::Item;
use crate::config::{Config, SpoolLimit};
use crate::gateways::spool::{FileSpool, Spool, SpoolError, Volume};
use crate::gateways::upload_store::replicas::SpoolClaim;
use crate::gateways::upload_store::survey::Service;

/// A network file system that is away answers nothing at all.
const DEADLINE: Duration = Duration::from_secs(10);
/// Each chunk waits for one such write; a browser sends them one after another.
const SLOW: Duration = Duration::from_millis(250);

/// What was seen of the folder.
pub(super) struct Seen {
    /// Whether it is there at all; what follows is then of the nearest folder above.
    there: bool,
    trial: Result<Duration, SpoolError>,
    marker: Result<Option<Uuid>, SpoolError>,
    volume: Result<Volume, SpoolError>,
}

pub(super) async fn look(config: &Config) -> Seen {
    let dir = std::path::absolute(&config.spool.dir).unwrap_or_else(|_| config.spool.dir.clone());
    let nearest = nearest(dir.clone()).await;
    let place = FileSpool::new(&nearest);
    Seen {
        there: nearest == dir,
        trial: in_time(place.try_out()).await,
        marker: in_time(FileSpool::new(dir).marker()).await,
        volume: in_time(place.volume()).await,
    }
}

/// The folder itself or the nearest one above it that is there; itself too if nobody answers, as the trial will tell.
async fn nearest(dir: PathBuf) -> PathBuf {
    let climb = dir.clone();
    let climb = tokio::task::spawn_blocking(move || {
        climb.ancestors().find(|above| above.exists()).map(PathBuf::from)
    });
    match tokio::time::timeout(DEADLINE, climb).await {
        Ok(Ok(Some(found))) => found,
        _ => dir,
    }
}

async fn in_time<T>(look: impl Future<Output = Result<T, SpoolError>>) -> Result<T, SpoolError> {
    let silent = || SpoolError::Io(format!("no answer within {DEADLINE:?}"));
    tokio::time::timeout(DEADLINE, look).await.unwrap_or_else(|_| Err(silent()))
}

pub(super) fn items(config: &Config, seen: &Seen, service: &Result<Service, String>) -> [Item; 3] {
    [folder(config, seen), identity(config, seen, service), room(config, seen, service)]
}

fn folder(config: &Config, seen: &Seen) -> Item {
    let dir = config.spool.dir.display();
    match &seen.trial {
        Err(error) => Item::wrong(
            "spool",
            format!("{dir} cannot be written: {error}"),
            "give the folder to the user that runs the service, on a volume mounted for writing, or set UPLOADER_SPOOL_DIR",
        ),
        Ok(_) if !seen.there => Item::warning(
            "spool",
            format!("{dir} is not there; a starting replica makes it where nothing is mounted"),
            "mount the volume that all replicas share, or make the folder, or set UPLOADER_SPOOL_DIR",
        ),
        Ok(took) if *took > SLOW => Item::warning(
            "spool",
            format!(
                "{dir} takes {} ms until a small write is durable, and each chunk waits for one",
                took.as_millis()
            ),
            "put the spool on a faster disk",
        ),
        Ok(took) => Item::ok("spool", format!("{dir} can be written, durable in {} ms", took.as_millis())),
    }
}

fn identity(config: &Config, seen: &Seen, service: &Result<Service, String>) -> Item {
    const NAME: &str = "spool_id";
    let mend = "mount the shared volume there, or set UPLOADER_SPOOL_DIR to it";
    let marker = match &seen.marker {
        Ok(marker) => *marker,
        Err(error) => return Item::wrong(NAME, error.to_string(), mend),
    };
    let service = match service {
        Ok(service) => service,
        Err(why) => return Item::skipped(NAME, why),
    };
    let in_use = service.live > 0 || service.unfinished > 0;
    match (SpoolClaim::of(service.spool_id, marker, in_use), service.spool_id, marker) {
        (SpoolClaim::Shared, _, _) => Item::ok(NAME, "the one that all replicas use"),
        (SpoolClaim::Adopted, None, _) => Item::ok(NAME, "empty; the first replica that starts adopts it"),
        (SpoolClaim::Adopted, Some(shared), _) => Item::warning(
            NAME,
            format!(
                "empty, where {shared} was used; nobody needs its bytes: the next replica adopts this one"
            ),
            format!("if that is not meant, {mend}"),
        ),
        (SpoolClaim::Foreign, None, _) => Item::wrong(
            NAME,
            format!("{} belongs to another installation", config.spool.dir.display()),
            "set UPLOADER_SPOOL_DIR to an empty folder",
        ),
        (SpoolClaim::Foreign, Some(shared), marker) => {
            let here =
                marker.map_or_else(|| "no marker is here".to_owned(), |marker| format!("{marker} is here"));
            let found = format!("not the one that all replicas use: {here}, theirs is {shared}");
            Item::wrong(NAME, found, mend)
        }
    }
}

fn room(config: &Config, seen: &Seen, service: &Result<Service, String>) -> Item {
    const NAME: &str = "spool_space";
    let volume = match &seen.volume {
        Ok(volume) => *volume,
        Err(error) => return Item::skipped(NAME, error.to_string()),
    };
    let quota = match config.spool.max_bytes {
        SpoolLimit::Bytes(bytes) => bytes,
        SpoolLimit::VolumeShare(share) => (volume.total as f64 * share) as u64,
    };
    let bytes = |count: i64| u64::try_from(count).unwrap_or(0);
    let (reserved, stored) = service.as_ref().map_or((0, 0), |row| (bytes(row.reserved), bytes(row.stored)));
    let found = format!(
        "{} of {} free, uploads hold {} of {}",
        HumanBytes(volume.free),
        HumanBytes(volume.total),
        HumanBytes(reserved),
        HumanBytes(quota)
    );
    if reserved >= quota {
        let mend =
            "raise UPLOADER_SPOOL_MAX_BYTES or the volume, or see why uploads do not end: `sessions ls`";
        return Item::warning(NAME, format!("{found}: new uploads are refused"), mend);
    }
    if volume.free < quota.saturating_sub(stored) {
        let mend = "free space on the volume, or lower UPLOADER_SPOOL_MAX_BYTES";
        let risk = "the volume is full before uploads are refused, and then no replica consumes";
        return Item::warning(NAME, format!("{found}: {risk}"), mend);
    }
    Item::ok(NAME, found)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::cli::check::report::State;
    use crate::config::ConfigSources;

    const GIB: u64 = 1 << 30;

    fn config() -> Config {
        let env = [("UPLOADER_SPOOL_MAX_BYTES".to_owned(), "8GiB".to_owned())].into();
        Config::load(ConfigSources { file: None, env }).unwrap().0
    }

    fn seen(marker: Option<Uuid>, free: u64) -> Seen {
        let volume = Ok(Volume { total: 100 * GIB, free });
        Seen { there: true, trial: Ok(Duration::ZERO), marker: Ok(marker), volume }
    }

    fn service(spool_id: Option<Uuid>, live: i64, reserved: u64, stored: u64) -> Result<Service, String> {
        Ok(Service {
            spool_id,
            consuming_since: None,
            live,
            consuming: live,
            dead: 0,
            unfinished: 0,
            overdue: 0,
            reserved: reserved as i64,
            stored: stored as i64,
        })
    }

    #[test]
    fn the_spool_is_judged_as_a_start_would() {
        let (ours, theirs) = (Some(Uuid::from_u128(1)), Some(Uuid::from_u128(2)));
        let judged =
            |shared, marker, live| identity(&config(), &seen(marker, 0), &service(shared, live, 0, 0)).state;
        assert_eq!(judged(ours, ours, 1), State::Ok);
        assert_eq!(judged(None, None, 0), State::Ok);
        assert_eq!(judged(ours, theirs, 0), State::Wrong);
        assert_eq!(judged(None, theirs, 0), State::Wrong);
        assert_eq!(judged(ours, None, 1), State::Wrong);
        assert_eq!(judged(ours, None, 0), State::Warning);
    }

    #[test]
    fn a_volume_that_fills_before_the_quota_is_a_warning() {
        let judged = |free, reserved, stored| {
            room(&config(), &seen(None, free), &service(None, 1, reserved, stored)).state
        };
        assert_eq!(judged(50 * GIB, GIB, GIB), State::Ok);
        assert_eq!(judged(7 * GIB, 2 * GIB, GIB), State::Ok);
        assert_eq!(judged(6 * GIB, 2 * GIB, GIB), State::Warning);
        assert_eq!(judged(50 * GIB, 8 * GIB, GIB), State::Warning);
    }
}
