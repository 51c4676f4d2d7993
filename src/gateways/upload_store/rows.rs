//! Rows as PostgreSQL gives them, read into the domain's words.

use std::collections::HashMap;

use sea_orm::{ActiveEnum, QueryResult, TryGetable};
use uuid::Uuid;

use super::StoreError;
use crate::domain::ids::{FlowId, ReplicaId, SessionId, VideoId};
use crate::domain::recent::Recent;
use crate::domain::session::{OwnRow, Session, SharedRows};
use crate::domain::status::{FlowStatus, SessionState, VideoStatus};
use crate::gateways::spool::{RecordPlace, Run};

/// One column of a row.
pub(super) fn get<T: TryGetable>(row: &QueryResult, column: &str) -> Result<T, StoreError> {
    row.try_get("", column).map_err(StoreError::from)
}

/// The columns of [`SESSION_COLUMNS`]. What stands in one session's rows must not keep the others from being read.
fn session(row: &QueryResult) -> Result<Session, StoreError> {
    let mut unreadable = None;
    let own = own_row(row).or_else(|error| strange_only(error, &mut unreadable))?;
    let shared = shared_rows(row).or_else(|error| strange_only(error, &mut unreadable))?;
    Ok(Session { own, shared, unreadable })
}

fn strange_only<T>(error: StoreError, unreadable: &mut Option<String>) -> Result<Option<T>, StoreError> {
    let StoreError::Refused(what) = error else {
        return Err(error);
    };
    *unreadable = Some(what);
    Ok(None)
}

/// A session's own and shared rows, found from `k(id)`.
pub(super) const SESSION_COLUMNS: &str = "k.id, s.state, s.committed, s.recent, s.last_error, s.owner, \
     u.flow_id, f.video_id, u.total_bytes::bigint AS total_bytes, u.uploaded_bytes::bigint AS uploaded_bytes, \
     f.status::text AS flow_status, v.status::text AS video_status";

/// Goes with [`SESSION_COLUMNS`].
pub(super) const SESSION_JOINS: &str = "LEFT JOIN uploader.session s ON s.session_id = k.id \
     LEFT JOIN upload_sessions u ON u.id = k.id \
     LEFT JOIN flows f ON f.id = u.flow_id \
     LEFT JOIN videos v ON v.id = f.video_id";

fn own_row(row: &QueryResult) -> Result<Option<OwnRow>, StoreError> {
    let Some(state) = get::<Option<String>>(row, "state")? else {
        return Ok(None);
    };
    let packed: Vec<u8> = get(row, "recent")?;
    Ok(Some(OwnRow {
        state: state_of(&state)?,
        committed: get(row, "committed")?,
        recent: Recent::unpack(&packed).ok_or_else(|| strange("recent", "its length"))?,
        last_error: get(row, "last_error")?,
        owner: get::<Option<Uuid>>(row, "owner")?.map(ReplicaId),
    }))
}

fn shared_rows(row: &QueryResult) -> Result<Option<SharedRows>, StoreError> {
    let (Some(flow), Some(video)) =
        (get::<Option<Uuid>>(row, "flow_id")?, get::<Option<Uuid>>(row, "video_id")?)
    else {
        return Ok(None);
    };
    let flow_status: Option<String> = get(row, "flow_status")?;
    let video_status: Option<String> = get(row, "video_status")?;
    let (Some(flow_status), Some(video_status)) = (flow_status, video_status) else {
        return Ok(None);
    };
    Ok(Some(SharedRows {
        flow: FlowId(flow),
        video: VideoId(video),
        total_bytes: get::<Option<i64>>(row, "total_bytes")?.unwrap_or(0),
        uploaded_bytes: get::<Option<i64>>(row, "uploaded_bytes")?.unwrap_or(0),
        flow_status: flow_status_of(&flow_status)?,
        video_status: video_status_of(&video_status)?,
    }))
}

/// Reads `uploader.session.state`.
pub(super) fn state_of(text: &str) -> Result<SessionState, StoreError> {
    SessionState::parse(text).ok_or_else(|| strange("uploader.session.state", text))
}

/// Reads `videos.status`.
pub(super) fn video_status_of(text: &str) -> Result<VideoStatus, StoreError> {
    use entity::VideoStatus as Stored;
    match Stored::try_from_value(&text.to_owned()).map_err(|_| strange("videos.status", text))? {
        Stored::Created => Ok(VideoStatus::Created),
        Stored::Uploading => Ok(VideoStatus::Uploading),
        Stored::Distributed => Ok(VideoStatus::Distributed),
        Stored::Blocked => Ok(VideoStatus::Blocked),
    }
}

/// Reads `flows.status`.
pub(super) fn flow_status_of(text: &str) -> Result<FlowStatus, StoreError> {
    use entity::FlowStatus as Stored;
    match Stored::try_from_value(&text.to_owned()).map_err(|_| strange("flows.status", text))? {
        Stored::Created => Ok(FlowStatus::Created),
        Stored::Uploading => Ok(FlowStatus::Uploading),
        Stored::Processing => Ok(FlowStatus::Processing),
        Stored::Distributed => Ok(FlowStatus::Distributed),
        Stored::Hidden => Ok(FlowStatus::Hidden),
    }
}

/// As `flows.status` stores it.
pub(super) fn flow_status_text(status: FlowStatus) -> String {
    use entity::FlowStatus as Stored;
    let stored = match status {
        FlowStatus::Created => Stored::Created,
        FlowStatus::Uploading => Stored::Uploading,
        FlowStatus::Processing => Stored::Processing,
        FlowStatus::Distributed => Stored::Distributed,
        FlowStatus::Hidden => Stored::Hidden,
    };
    stored.to_value()
}

/// A row of `uploader.run`.
pub(super) fn run(row: &QueryResult) -> Result<Run, StoreError> {
    Ok(Run {
        start: get(row, "start")?,
        length: get(row, "length")?,
        place: RecordPlace {
            writer: ReplicaId(get(row, "writer")?),
            position: get(row, "position")?,
            record_end: get(row, "record_end")?,
        },
    })
}

/// Sessions by id, from rows of [`SESSION_COLUMNS`].
pub(super) fn sessions(rows: &[QueryResult]) -> Result<HashMap<SessionId, Session>, StoreError> {
    rows.iter().map(|row| Ok((SessionId(get(row, "id")?), session(row)?))).collect()
}

/// Most characters of a strange value that are told: it goes into logs and answers.
const TOLD: usize = 60;

fn strange(what: &str, value: &str) -> StoreError {
    StoreError::Refused(format!("{what} is {:?}", value.chars().take(TOLD).collect::<String>()))
}
