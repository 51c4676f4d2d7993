//! What an operator may do to one session by hand: try a failed one again, or end one that is not over.

use super::status::{FlowStatus, SessionState, VideoStatus};

/// What the locked rows say of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Our row; none before the first chunk.
    pub own: Option<OwnFacts>,
    /// The shared rows; none when one of them is gone.
    pub shared: Option<SharedFacts>,
}

/// Our row, as far as a hand may change it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnFacts {
    /// `uploader.session.state`
    pub state: SessionState,
    /// Bytes stored.
    pub committed: i64,
    /// Bytes of the whole file.
    pub total_bytes: i64,
    /// The janitor has given the stored bytes up.
    pub spool_gone: bool,
    /// A finish was asked for.
    pub finish_sent: bool,
}

/// The shared rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SharedFacts {
    /// `flows.status`
    pub flow: FlowStatus,
    /// `videos.status`
    pub video: VideoStatus,
    /// Another flow of the video is HIDDEN.
    pub other_hidden: bool,
}

/// Why nothing may be done, for the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused(pub String);

/// A failed session may be fed again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// The video becomes UPLOADING; otherwise it stays BLOCKED, for another of its flows is HIDDEN.
    pub unblock: bool,
}

/// A session may be ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expiry {
    /// It has a row of ours; otherwise a tombstone must be made.
    pub own: bool,
    /// Flow and video are there and play nothing: they become HIDDEN and BLOCKED.
    pub block: bool,
    /// A finish is on its way: files may still appear on holder.
    pub finish_sent: bool,
}

fn refused<T>(why: impl Into<String>) -> Result<T, Refused> {
    Err(Refused(why.into()))
}

/// Only a FAILED session whose bytes are all here.
///
/// # Errors
/// The reason, for the operator.
pub fn retry(facts: &Facts) -> Result<Retry, Refused> {
    let Some(own) = &facts.own else {
        return refused("there is no such session");
    };
    match own.state {
        SessionState::Failed => {}
        SessionState::Open | SessionState::Sealed => {
            return refused(format!("it is {}, not FAILED: it is being worked on", own.state.as_str()));
        }
        SessionState::Done | SessionState::Expired => {
            return refused(format!("it is {}: that is final", own.state.as_str()));
        }
    }
    if own.spool_gone {
        return refused(
            "its bytes were given up, VIDEO_TTL after it failed: the file must be uploaded again",
        );
    }
    if own.committed != own.total_bytes {
        return refused(format!(
            "only {} of {} bytes are here: the file must be uploaded again",
            own.committed, own.total_bytes
        ));
    }
    match facts.shared {
        None => refused("its rows in the shared tables are gone: its user or video was deleted"),
        Some(shared) if shared.flow == FlowStatus::Distributed => refused("its flow plays already"),
        Some(shared) => Ok(Retry { unblock: !shared.other_hidden }),
    }
}

/// Anything that is not over; a whole file is thrown away only by force.
///
/// # Errors
/// The reason, for the operator.
pub fn expire(facts: &Facts, force: bool) -> Result<Expiry, Refused> {
    let block = facts.shared.is_some_and(|shared| shared.flow != FlowStatus::Distributed);
    let Some(own) = &facts.own else {
        return match facts.shared {
            None => refused("there is no such session"),
            Some(_) => Ok(Expiry { own: false, block, finish_sent: false }),
        };
    };
    match own.state {
        SessionState::Done | SessionState::Expired => {
            refused(format!("it is {}: that is final", own.state.as_str()))
        }
        SessionState::Sealed if !force => refused(
            "it is SEALED: the whole file is stored and its video is being made; --force throws it away all the same",
        ),
        SessionState::Open | SessionState::Sealed | SessionState::Failed => {
            Ok(Expiry { own: true, block, finish_sent: own.finish_sent })
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const STATES: [SessionState; 5] = [
        SessionState::Open,
        SessionState::Sealed,
        SessionState::Done,
        SessionState::Expired,
        SessionState::Failed,
    ];

    fn facts(state: SessionState) -> Facts {
        let own = OwnFacts { state, committed: 10, total_bytes: 10, spool_gone: false, finish_sent: false };
        let shared =
            SharedFacts { flow: FlowStatus::Hidden, video: VideoStatus::Blocked, other_hidden: false };
        Facts { own: Some(own), shared: Some(shared) }
    }

    fn changed(change: impl FnOnce(&mut OwnFacts, &mut Option<SharedFacts>)) -> Facts {
        let mut facts = facts(SessionState::Failed);
        change(facts.own.as_mut().unwrap(), &mut facts.shared);
        facts
    }

    #[test]
    fn only_a_failed_session_is_tried_again() {
        for state in STATES {
            assert_eq!(retry(&facts(state)).is_ok(), state == SessionState::Failed, "{state:?}");
        }
        assert!(retry(&Facts { own: None, shared: None }).is_err());
    }

    #[test]
    fn it_is_not_tried_again_without_all_of_its_bytes_or_rows() {
        let lacking = [
            changed(|own, _| own.committed = 9),
            changed(|own, _| own.spool_gone = true),
            changed(|_, shared| *shared = None),
            changed(|_, shared| shared.as_mut().unwrap().flow = FlowStatus::Distributed),
        ];
        for facts in lacking {
            assert!(retry(&facts).is_err(), "{facts:?}");
        }
    }

    #[test]
    fn a_video_with_another_hidden_flow_stays_blocked() {
        assert!(retry(&facts(SessionState::Failed)).unwrap().unblock);
        let other = changed(|_, shared| shared.as_mut().unwrap().other_hidden = true);
        assert!(!retry(&other).unwrap().unblock);
    }

    #[test]
    fn what_is_final_stays_so_and_a_whole_file_goes_by_force_only() {
        for state in STATES {
            let is_final = matches!(state, SessionState::Done | SessionState::Expired);
            assert_eq!(expire(&facts(state), true).is_err(), is_final, "{state:?}");
            let gentle = matches!(state, SessionState::Open | SessionState::Failed);
            assert_eq!(expire(&facts(state), false).is_ok(), gentle, "{state:?}");
        }
    }

    #[test]
    fn a_flow_that_plays_is_never_hidden() {
        let plays = changed(|_, shared| shared.as_mut().unwrap().flow = FlowStatus::Distributed);
        assert!(!expire(&plays, true).unwrap().block);
    }

    #[test]
    fn an_announced_upload_without_a_chunk_can_be_ended_and_an_unknown_one_cannot() {
        let announced = Facts { own: None, ..facts(SessionState::Open) };
        assert!(!expire(&announced, false).unwrap().own);
        assert!(expire(&Facts { own: None, shared: None }, true).is_err());
    }

    const FLOWS: [FlowStatus; 5] = [
        FlowStatus::Created,
        FlowStatus::Uploading,
        FlowStatus::Processing,
        FlowStatus::Distributed,
        FlowStatus::Hidden,
    ];

    /// Every row of ours that makes a difference, and none.
    fn all_own() -> Vec<Option<OwnFacts>> {
        let mut all = vec![None];
        for state in STATES {
            for (committed, spool_gone, finish_sent) in
                [(10, false, false), (10, true, false), (10, false, true), (9, false, false), (9, true, true)]
            {
                all.push(Some(OwnFacts { state, committed, total_bytes: 10, spool_gone, finish_sent }));
            }
        }
        all
    }

    fn all_shared() -> Vec<Option<SharedFacts>> {
        let videos =
            [VideoStatus::Created, VideoStatus::Uploading, VideoStatus::Distributed, VideoStatus::Blocked];
        let mut all = vec![None];
        for flow in FLOWS {
            for video in videos {
                let shared =
                    [false, true].map(|other_hidden| Some(SharedFacts { flow, video, other_hidden }));
                all.extend(shared);
            }
        }
        all
    }

    fn everything() -> impl Iterator<Item = Facts> {
        all_own()
            .into_iter()
            .flat_map(|own| all_shared().into_iter().map(move |shared| Facts { own: own.clone(), shared }))
    }

    #[test]
    fn of_all_rows_exactly_the_failed_whole_and_wanted_ones_are_tried_again() {
        for facts in everything() {
            let failed = facts.own.as_ref().is_some_and(|own| {
                own.state == SessionState::Failed && own.committed == own.total_bytes && !own.spool_gone
            });
            let silent = facts.shared.filter(|shared| shared.flow != FlowStatus::Distributed);
            match (retry(&facts), silent) {
                (Ok(retry), Some(shared)) => {
                    assert!(failed && retry.unblock != shared.other_hidden, "{facts:?}");
                }
                (Ok(_), None) => panic!("{facts:?}"),
                (Err(why), silent) => {
                    assert!(!failed || silent.is_none(), "{facts:?}");
                    assert!(!why.0.is_empty(), "{facts:?}");
                }
            }
        }
    }

    #[test]
    fn of_all_rows_nothing_final_ends_again_and_nothing_that_plays_is_hidden() {
        for (facts, force) in everything().flat_map(|facts| [(facts.clone(), false), (facts, true)]) {
            let known = facts.own.is_some() || facts.shared.is_some();
            let may = known
                && facts.own.as_ref().is_none_or(|own| match own.state {
                    SessionState::Open | SessionState::Failed => true,
                    SessionState::Sealed => force,
                    SessionState::Done | SessionState::Expired => false,
                });
            let ended = expire(&facts, force);
            assert_eq!(ended.is_ok(), may, "{facts:?} {force}");
            if let Ok(ended) = ended {
                let silent = facts.shared.is_some_and(|shared| shared.flow != FlowStatus::Distributed);
                let finish_sent = facts.own.as_ref().is_some_and(|own| own.finish_sent);
                assert_eq!(
                    ended,
                    Expiry { own: facts.own.is_some(), block: silent, finish_sent },
                    "{facts:?}"
                );
            }
        }
    }
}
