//! What can go wrong.

use std::time::Duration;

use super::links::Link;

/// How a call to fflow is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wrong {
    /// This status, without the effect.
    Status(u16),
    /// The bytes are taken, or the finish begun, and the connection is reset.
    ResetAfter,
    /// The bytes are taken, or the finish begun, and the answer is a 504.
    TimeoutAfter,
}

/// One thing that goes wrong. Times are how long it lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// kill -9 of a replica; it starts again after the pause.
    KillUploader(usize, Duration),
    /// SIGTERM of a replica; it starts again when it has left.
    TerminateUploader(usize),
    /// SIGSTOP beyond its lease, then SIGCONT.
    FreezeUploader(usize, Duration),
    /// A replica of the recording fflow dies with its flows and comes back.
    KillRecorder(usize, Duration),
    /// kill -9 of a replica of the real fflow; it starts again.
    KillFflow(usize, Duration),
    /// kill -9 of one ffmpeg, recorded or real.
    KillFfmpeg { real: bool },
    /// So many calls of a kind are answered wrongly by the recording fflow.
    WrongAnswers { finish: bool, wrong: Wrong, times: usize },
    /// RabbitMQ is stopped, or killed, and started again.
    RestartBroker { kill: bool },
    /// PostgreSQL is stopped, or crashes, and is started again after the pause.
    RestartDatabase { crash: bool, pause: Duration },
    /// Redis forgets everything.
    EmptyRedis,
    /// Redis is away for a time and comes back empty.
    RestartRedis(Duration),
    /// Every connection of a cable is reset.
    Cut(Link),
    /// One direction of every connection of a cable ends.
    HalfClose(Link, bool),
    /// Every byte on a cable comes later.
    Delay(Link, Duration, Duration),
    /// No byte moves on a cable.
    Stall(Link, Duration),
    /// One upload reserves all of the spool's quota.
    ExhaustQuota(Duration),
    /// The spool's volume has no byte left.
    FillSpool(Duration),
}

impl Fault {
    /// In the table, one line for each.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::KillUploader(..) => "uploader kill -9",
            Self::TerminateUploader(_) => "uploader SIGTERM",
            Self::FreezeUploader(..) => "uploader SIGSTOP",
            Self::KillRecorder(..) | Self::KillFflow(..) => "fflow replica killed",
            Self::KillFfmpeg { .. } => "ffmpeg killed",
            Self::WrongAnswers { .. } => "fflow answers wrongly",
            Self::RestartBroker { .. } => "RabbitMQ restarted",
            Self::RestartDatabase { .. } => "PostgreSQL restarted",
            Self::EmptyRedis => "Redis emptied",
            Self::RestartRedis(_) => "Redis restarted",
            Self::Cut(_) => "connections cut",
            Self::HalfClose(..) => "connections half-closed",
            Self::Delay(..) => "connections delayed",
            Self::Stall(..) => "connections stalled",
            Self::ExhaustQuota(_) => "spool quota reached",
            Self::FillSpool(_) => "spool volume full",
        }
    }

    /// Whether no replica takes chunks meanwhile.
    pub(super) fn stops_all(&self) -> bool {
        matches!(self, Self::RestartBroker { .. } | Self::RestartDatabase { .. } | Self::FillSpool(_))
    }

    /// The replica of the uploader that takes no chunks meanwhile.
    pub(super) fn stops(&self) -> Option<usize> {
        match self {
            Self::KillUploader(replica, _)
            | Self::TerminateUploader(replica)
            | Self::FreezeUploader(replica, _)
            | Self::Cut(Link::UploaderBroker(replica) | Link::UploaderDatabase(replica))
            | Self::HalfClose(Link::UploaderBroker(replica) | Link::UploaderDatabase(replica), _)
            | Self::Stall(Link::UploaderBroker(replica) | Link::UploaderDatabase(replica), _) => {
                Some(*replica)
            }
            _ => None,
        }
    }

    /// In the plan and the log.
    pub(super) fn describe(&self) -> String {
        let detail = match self {
            Self::KillUploader(number, pause) => format!("uploader-{}, back after {pause:.1?}", number + 1),
            Self::TerminateUploader(number) => format!("uploader-{}", number + 1),
            Self::FreezeUploader(number, time) => format!("uploader-{} for {time:.1?}", number + 1),
            Self::KillRecorder(number, pause) => format!("recording replica {number}, {pause:.1?}"),
            Self::KillFflow(number, pause) => format!("fflow-{}, {pause:.1?}", number + 1),
            Self::KillFfmpeg { real: true } => "a real one".to_owned(),
            Self::KillFfmpeg { real: false } => "a recorded one".to_owned(),
            Self::WrongAnswers { finish, wrong, times } => {
                format!("{} x {wrong:?} to a {}", times, if *finish { "finish" } else { "push" })
            }
            Self::RestartBroker { kill: true } => "killed".to_owned(),
            Self::RestartBroker { kill: false } => "stopped".to_owned(),
            Self::RestartDatabase { crash: true, pause } => format!("crashed, away {pause:.1?}"),
            Self::RestartDatabase { crash: false, pause } => format!("stopped, away {pause:.1?}"),
            Self::EmptyRedis => String::new(),
            Self::RestartRedis(time) | Self::ExhaustQuota(time) | Self::FillSpool(time) => {
                format!("{time:.1?}")
            }
            Self::Cut(link) => link.name(),
            Self::HalfClose(link, true) => format!("{}, towards the target", link.name()),
            Self::HalfClose(link, false) => format!("{}, towards the client", link.name()),
            Self::Delay(link, by, time) => format!("{} by {by:.0?} for {time:.1?}", link.name()),
            Self::Stall(link, time) => format!("{} for {time:.1?}", link.name()),
        };
        format!("{}: {detail}", self.kind()).trim_end_matches([':', ' ']).to_owned()
    }
}
