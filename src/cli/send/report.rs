//! The answer of `send`: how it ended, under which ids, where it plays, and how to go on.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use indicatif::HumanBytes;
use serde::Serialize;
use url::Url;

use super::progress::rate;
use crate::cli::Outcome;
use crate::domain::ids::{FlowId, SessionId, VideoId};

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", content = "reason", rename_all = "snake_case")]
pub(super) enum Ending {
    /// It plays.
    Distributed,
    /// Every byte is stored, and nobody wanted to wait for more.
    Stored,
    /// A signal came.
    Interrupted,
    /// It can go on later; why it did not now.
    Unfinished(String),
    /// It never plays.
    Failed(String),
    /// Nothing was changed.
    Refused(String),
}

/// What `send` prints.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Report {
    #[serde(flatten)]
    pub ending: Ending,
    /// Its path, readable: bytes that are no text are replaced.
    pub file: String,
    pub session_id: Option<String>,
    pub flow_id: Option<String>,
    pub video_id: Option<String>,
    pub total_bytes: Option<i64>,
    pub stored_bytes: Option<i64>,
    /// How long the sending took, and how fast it was; none if nothing was sent.
    pub sending_ms: Option<u64>,
    pub bytes_per_second: Option<u64>,
    pub dash: Option<String>,
    pub hls: Option<String>,
    /// The command that goes on.
    pub resume: Option<String>,
}

impl Report {
    /// About a file of which nothing is known yet.
    pub fn refused(file: &Path, reason: String) -> Self {
        Report {
            ending: Ending::Refused(reason),
            file: file.display().to_string(),
            session_id: None,
            flow_id: None,
            video_id: None,
            total_bytes: None,
            stored_bytes: None,
            sending_ms: None,
            bytes_per_second: None,
            dash: None,
            hls: None,
            resume: None,
        }
    }

    /// Names the upload, and where it plays: addresses at holder, or paths below it when its address is not set.
    pub fn name(
        &mut self,
        session: SessionId,
        flow: Option<FlowId>,
        video: Option<VideoId>,
        holder: Option<&Url>,
    ) {
        self.session_id = Some(session.to_string());
        self.flow_id = flow.map(|flow| flow.to_string());
        self.video_id = video.map(|video| video.to_string());
        if let (Some(flow), Some(video)) = (flow, video) {
            let base = holder.map(|base| base.as_str().trim_end_matches('/')).unwrap_or_default();
            self.dash = Some(format!("{base}/{video}/{flow}/dash/manifest.mpd"));
            self.hls = Some(format!("{base}/{video}/{flow}/hls/manifest.m3u8"));
        }
    }

    /// How much was sent in how much time.
    pub fn measure(&mut self, sent: i64, elapsed: Duration) {
        self.sending_ms = u64::try_from(elapsed.as_millis()).ok();
        self.bytes_per_second = Some(rate(sent.unsigned_abs(), elapsed));
    }

    /// Ends it, with the command to go on if there is anything to go on with.
    pub fn end(mut self, ending: Ending) -> Self {
        let onward = matches!(ending, Ending::Stored | Ending::Interrupted | Ending::Unfinished(_));
        let session = self.session_id.as_deref().filter(|_| onward);
        self.resume =
            session.map(|session| format!("uploader-v4 send {} --session {session}", quoted(&self.file)));
        self.ending = ending;
        self
    }

    /// How the process ends.
    pub fn outcome(&self) -> Outcome {
        match self.ending {
            Ending::Distributed | Ending::Stored => Outcome::Done,
            Ending::Interrupted | Ending::Unfinished(_) | Ending::Failed(_) => Outcome::Unwell,
            Ending::Refused(_) => Outcome::Refused,
        }
    }

    fn headline(&self) -> String {
        match &self.ending {
            Ending::Distributed => "distributed: it plays".to_owned(),
            Ending::Stored => "stored: the service finishes it without this command".to_owned(),
            Ending::Interrupted => "interrupted".to_owned(),
            Ending::Unfinished(reason) => format!("unfinished: {reason}"),
            Ending::Failed(reason) => format!("failed: {reason}"),
            Ending::Refused(reason) => format!("refused: {reason}"),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.headline())?;
        if let (Some(stored), Some(total)) = (self.stored_bytes, self.total_bytes) {
            let (stored, total) = (HumanBytes(stored.unsigned_abs()), HumanBytes(total.unsigned_abs()));
            write!(f, "\n  stored   {stored} of {total}")?;
        }
        if let (Some(ms), Some(rate)) = (self.sending_ms, self.bytes_per_second) {
            write!(f, ", sent in {:.1} s, {}/s", Duration::from_millis(ms).as_secs_f64(), HumanBytes(rate))?;
        }
        let rows = [
            ("session", &self.session_id),
            ("flow", &self.flow_id),
            ("video", &self.video_id),
            ("dash", &self.dash),
            ("hls", &self.hls),
        ];
        for (name, value) in rows {
            if let Some(value) = value {
                write!(f, "\n  {name:<8} {value}")?;
            }
        }
        match (&self.resume, &self.ending) {
            (Some(resume), Ending::Stored) => write!(f, "\nwait for it with: {resume}"),
            (Some(resume), _) => write!(f, "\nresume with: {resume}"),
            (None, _) => Ok(()),
        }
    }
}

/// A path as a shell takes it.
fn quoted(text: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "/._-+,@%=:".contains(letter);
    if !text.is_empty() && !text.starts_with('-') && text.chars().all(plain) {
        return text.to_owned();
    }
    let here = if text.starts_with('-') { "./" } else { "" };
    format!("'{here}{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use uuid::Uuid;

    use super::*;

    fn named(file: &str, holder: Option<&str>) -> Report {
        let mut report = Report::refused(Path::new(file), String::new());
        let holder = holder.map(|base| Url::parse(base).unwrap());
        let ids = (SessionId(Uuid::from_u128(1)), FlowId(Uuid::from_u128(2)), VideoId(Uuid::from_u128(3)));
        report.name(ids.0, Some(ids.1), Some(ids.2), holder.as_ref());
        report
    }

    #[test]
    fn addresses_lie_under_holder_and_are_paths_without_it() {
        let tail = format!("/{}/{}/dash/manifest.mpd", Uuid::from_u128(3), Uuid::from_u128(2));
        assert_eq!(named("a", None).dash.unwrap(), tail);
        assert_eq!(
            named("a", Some("http://holder:8080/videos/")).dash.unwrap(),
            format!("http://holder:8080/videos{tail}")
        );
    }

    #[test]
    fn whoever_may_go_on_is_told_the_command_as_a_shell_takes_it() {
        let resume = |file: &str| named(file, None).end(Ending::Interrupted).resume.unwrap();
        let session = Uuid::from_u128(1);
        assert_eq!(resume("a/b.mp4"), format!("uploader-v4 send a/b.mp4 --session {session}"));
        assert_eq!(
            resume("it's mine.mp4"),
            format!(r"uploader-v4 send 'it'\''s mine.mp4' --session {session}")
        );
        assert!(resume("-x").contains("'./-x'"));
        assert_eq!(named("a", None).end(Ending::Failed("no".into())).resume, None);
        assert_eq!(named("a", None).end(Ending::Distributed).resume, None);
    }

    #[test]
    fn a_machine_reads_outcome_and_reason_beside_the_ids() {
        let report = named("a", None).end(Ending::Unfinished("too late".into()));
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(
            (json["outcome"].as_str(), json["reason"].as_str()),
            (Some("unfinished"), Some("too late"))
        );
        assert_eq!(json["session_id"], Uuid::from_u128(1).to_string());
        let json = serde_json::to_value(named("a", None).end(Ending::Distributed)).unwrap();
        assert_eq!((json["outcome"].as_str(), json.get("reason")), (Some("distributed"), None));
    }
}
