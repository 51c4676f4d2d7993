//! What may become of an upload that was begun before, and of one that waits for its streams. Pure.

use crate::domain::status::{FlowStatus, SessionState, VideoStatus};
use crate::gateways::upload_store::announce::Standing;

/// Where an upload goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Onward {
    /// At this byte of the file.
    Send(i64),
    /// Everything is stored: wait for the streams.
    Wait,
}

/// How the service ended with an upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ended {
    /// It plays.
    Distributed,
    /// It never will, for this reason.
    Failed(String),
}

/// Where a file of `bytes` goes on, or why it cannot.
pub(super) fn onward(standing: &Standing, bytes: i64) -> Result<Onward, String> {
    if let Some(Ended::Failed(reason)) = ended(standing) {
        return Err(reason);
    }
    if standing.total_bytes != bytes {
        return Err(format!(
            "the file has {bytes} bytes, but {} were announced: it is another file",
            standing.total_bytes
        ));
    }
    match (standing.state, standing.uploaded) {
        (Some(SessionState::Sealed | SessionState::Done), _) => Ok(Onward::Wait),
        (None, Some(foreign)) if foreign > 0 => Err(format!(
            "another uploader took the first {foreign} bytes, they are not in this service's spool"
        )),
        (Some(SessionState::Open | SessionState::Failed | SessionState::Expired) | None, _) => {
            Ok(Onward::Send(standing.stored))
        }
    }
}

/// Whether the service has ended with it; `None` while it is at work.
pub(super) fn ended(standing: &Standing) -> Option<Ended> {
    let because = |what: &str| match &standing.last_error {
        Some(reason) => Ended::Failed(format!("{what}: {reason}")),
        None => Ended::Failed(what.to_owned()),
    };
    match standing.state {
        Some(SessionState::Done) => return Some(Ended::Distributed),
        Some(SessionState::Failed) => return Some(because("upload has failed")),
        Some(SessionState::Expired) => return Some(because("upload has expired")),
        Some(SessionState::Open | SessionState::Sealed) | None => {}
    }
    match (standing.flow_status, standing.video_status) {
        (None, _) | (_, None) => Some(because("the flow or its video was removed")),
        (Some(FlowStatus::Distributed), _) => Some(Ended::Distributed),
        (Some(FlowStatus::Hidden), _) => Some(because("flow is hidden")),
        (_, Some(VideoStatus::Blocked)) => Some(because("video is blocked")),
        _ if standing.uploaded.is_none() => Some(because("the upload session was removed")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::domain::recent::Recent;

    fn open() -> Standing {
        Standing {
            flow: None,
            video: None,
            total_bytes: 100,
            stored: 40,
            uploaded: Some(40),
            state: Some(SessionState::Open),
            recent: Recent::default(),
            last_error: None,
            flow_status: Some(FlowStatus::Uploading),
            video_status: Some(VideoStatus::Uploading),
        }
    }

    fn reason(standing: &Standing) -> String {
        onward(standing, 100).unwrap_err()
    }

    #[test]
    fn an_open_upload_goes_on_where_it_stopped_and_a_new_one_at_its_beginning() {
        assert_eq!(onward(&open(), 100), Ok(Onward::Send(40)));
        let new = Standing { state: None, stored: 0, uploaded: Some(0), ..open() };
        assert_eq!(onward(&new, 100), Ok(Onward::Send(0)));
    }

    #[test]
    fn what_is_stored_is_not_sent_again() {
        let sealed = Standing { state: Some(SessionState::Sealed), stored: 100, ..open() };
        assert_eq!(onward(&sealed, 100), Ok(Onward::Wait));
        let gone = Standing { uploaded: None, flow_status: None, video_status: None, ..sealed };
        let done = Standing { state: Some(SessionState::Done), ..gone };
        assert_eq!((onward(&done, 100), ended(&done)), (Ok(Onward::Wait), Some(Ended::Distributed)));
    }

    #[test]
    fn a_file_of_another_length_is_another_file() {
        assert!(onward(&open(), 99).unwrap_err().contains("99 bytes, but 100"));
        let done = Standing { state: Some(SessionState::Done), ..open() };
        assert!(onward(&done, 99).is_err());
    }

    #[test]
    fn what_has_ended_says_why() {
        let because = |state| Standing { state: Some(state), last_error: Some("bad luck".into()), ..open() };
        assert_eq!(reason(&because(SessionState::Failed)), "upload has failed: bad luck");
        assert_eq!(reason(&because(SessionState::Expired)), "upload has expired: bad luck");
        assert!(reason(&Standing { flow_status: Some(FlowStatus::Hidden), ..open() }).contains("hidden"));
        let blocked = Standing { video_status: Some(VideoStatus::Blocked), ..open() };
        assert!(reason(&blocked).contains("blocked"));
        assert!(reason(&Standing { uploaded: None, ..open() }).contains("removed"));
        assert!(reason(&Standing { video_status: None, ..open() }).contains("removed"));
        let foreign = Standing { state: None, stored: 0, ..open() };
        assert!(reason(&foreign).contains("another uploader"));
    }

    #[test]
    fn a_flow_that_plays_has_ended_though_its_video_waits_for_others() {
        let plays = Standing {
            state: Some(SessionState::Done),
            flow_status: Some(FlowStatus::Distributed),
            ..open()
        };
        assert_eq!(ended(&plays), Some(Ended::Distributed));
        assert_eq!(ended(&open()), None);
    }
}
