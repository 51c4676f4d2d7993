//! A video and its flows.

use super::{Violation, require};
use crate::domain::status::{FlowStatus, VideoStatus};

/// A video says what its flows say, as long as this service alone writes both: it is DISTRIBUTED if and only if all of
/// them are, and BLOCKED if and only if one of them is HIDDEN. Its client polls until it is one of the two.
///
/// # Errors
/// It says something else.
pub fn video_agrees(video: VideoStatus, flows: &[FlowStatus]) -> Result<(), Violation> {
    let all_play = !flows.is_empty() && flows.iter().all(|flow| *flow == FlowStatus::Distributed);
    require((video == VideoStatus::Distributed) == all_play, || {
        format!("the video is {video:?} with {flows:?}")
    })?;
    let hidden = flows.contains(&FlowStatus::Hidden);
    let blocked = video == VideoStatus::Blocked;
    require(flows.is_empty() || blocked == hidden, || format!("the video is {video:?} with {flows:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_video_says_what_its_flows_say() {
        use FlowStatus::{Distributed, Hidden, Processing};
        let right = [
            (VideoStatus::Distributed, &[Distributed, Distributed][..]),
            (VideoStatus::Uploading, &[Distributed, Processing]),
            (VideoStatus::Blocked, &[Distributed, Hidden]),
            (VideoStatus::Blocked, &[]),
            (VideoStatus::Created, &[]),
        ];
        assert!(right.iter().all(|(video, flows)| video_agrees(*video, flows).is_ok()));
        let wrong = [
            (VideoStatus::Uploading, &[Distributed, Distributed][..]),
            (VideoStatus::Distributed, &[Distributed, Processing]),
            (VideoStatus::Uploading, &[Distributed, Hidden]),
            (VideoStatus::Blocked, &[Processing, Processing]),
            (VideoStatus::Distributed, &[]),
        ];
        assert!(wrong.iter().all(|(video, flows)| video_agrees(*video, flows).is_err()));
    }
}
