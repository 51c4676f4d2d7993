//! Scripted faults: which calls they take, and what then goes wrong.

use std::time::Duration;

/// The kinds of calls that fflow knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CallKind {
    /// `POST <base>/<name>`
    Create,
    /// `POST <flow>/push`
    Push,
    /// `POST <flow>/finish`
    Finish,
    /// `DELETE <flow>/delete`
    Delete,
}

/// What goes wrong with a call. *Effect* is what the call would have done without the fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// This status, no effect.
    Status(u16),
    /// The effect, then this status.
    StatusAfterEffect(u16),
    /// The connection ends without an answer and without the effect.
    ResetBefore,
    /// The effect, then the connection ends without an answer.
    ResetAfter,
    /// The effect twice over, answered once: what no fflow should do, for tests of whoever compares the bytes.
    EffectTwice,
    /// No effect and no answer; the connection ends after this long, or never.
    Hang(Option<Duration>),
    /// The effect, but no answer; the connection ends after this long, or never.
    HangAfterEffect(Option<Duration>),
    /// The effect comes this much later, and the answer after it, whether or not the client still listens.
    /// A finish is then a busy ffmpeg: a DELETE meanwhile answers 200, and nothing is shipped.
    DelayThen(Duration),
    /// A finish that ships for this long: the flow is a 404 meanwhile, then the files are there, then 201.
    SlowShip(Duration),
    /// A create answers with the replica's base address.
    BaseAddress,
    /// A create answers with this address, word for word.
    ForeignAddress(String),
    /// The effect, 201, and these bytes as the body.
    Garbage(Vec<u8>),
    /// A finish answers 201 and ships nothing.
    FinishWithoutFiles,
    /// A finish answers 201; one segment of each stream never arrives.
    FinishIncomplete,
    /// The flow's ffmpeg dies at this call, which is then answered as a dead ffmpeg answers.
    KillFlow,
    /// The whole replica dies at this call, without an answer.
    KillReplica,
}

/// A fault and the calls that it takes; made with [`FaultRule::on`], narrowed by the other methods.
#[derive(Debug, Clone)]
pub struct FaultRule {
    kind: CallKind,
    fault: Fault,
    name_prefix: Option<String>,
    replica: Option<usize>,
    after_bytes: u64,
    skip: usize,
    left: Option<usize>,
}

impl FaultRule {
    /// Takes every call of this kind, until disarmed.
    pub fn on(kind: CallKind, fault: Fault) -> Self {
        Self { kind, fault, name_prefix: None, replica: None, after_bytes: 0, skip: 0, left: None }
    }

    /// Only flows whose name begins so; a session's id takes all its generations.
    #[must_use]
    pub fn name(mut self, prefix: impl Into<String>) -> Self {
        self.name_prefix = Some(prefix.into());
        self
    }

    /// Only calls that reach this replica, counted from 1.
    #[must_use]
    pub fn replica(mut self, replica: usize) -> Self {
        self.replica = Some(replica);
        self
    }

    /// Only calls to a flow that has received at least so many bytes.
    #[must_use]
    pub fn after_bytes(mut self, bytes: u64) -> Self {
        self.after_bytes = bytes;
        self
    }

    /// Lets so many fitting calls pass first.
    #[must_use]
    pub fn skip(mut self, calls: usize) -> Self {
        self.skip = calls;
        self
    }

    /// Strikes so often, then never again.
    #[must_use]
    pub fn times(mut self, times: usize) -> Self {
        self.left = Some(times);
        self
    }

    /// Strikes once.
    #[must_use]
    pub fn once(self) -> Self {
        self.times(1)
    }

    fn fits(&self, call: &FaultedCall<'_>) -> bool {
        self.kind == call.kind
            && self.left != Some(0)
            && self.replica.is_none_or(|replica| replica == call.replica)
            && self.name_prefix.as_deref().is_none_or(|prefix| call.name.starts_with(prefix))
            && call.received >= self.after_bytes
    }
}

/// Names one armed rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FaultId(usize);

/// A call as the rules see it.
pub(super) struct FaultedCall<'a> {
    pub(super) kind: CallKind,
    pub(super) name: &'a str,
    pub(super) replica: usize,
    /// Bytes that the call's flow has received so far.
    pub(super) received: u64,
}

/// The armed rules in the order of arming.
#[derive(Default)]
pub(super) struct Faults {
    armed: Vec<Armed>,
}

struct Armed {
    rule: FaultRule,
    struck: usize,
    disarmed: bool,
}

impl Faults {
    pub(super) fn arm(&mut self, rule: FaultRule) -> FaultId {
        self.armed.push(Armed { rule, struck: 0, disarmed: false });
        FaultId(self.armed.len() - 1)
    }

    pub(super) fn disarm(&mut self, id: FaultId) {
        if let Some(armed) = self.armed.get_mut(id.0) {
            armed.disarmed = true;
        }
    }

    pub(super) fn disarm_all(&mut self) {
        self.armed.iter_mut().for_each(|armed| armed.disarmed = true);
    }

    pub(super) fn struck(&self, id: FaultId) -> usize {
        self.armed.get(id.0).map_or(0, |armed| armed.struck)
    }

    /// The fault of this call, from the oldest armed rule that fits and has let enough calls pass.
    pub(super) fn take(&mut self, call: &FaultedCall<'_>) -> Option<Fault> {
        for armed in self.armed.iter_mut().filter(|armed| !armed.disarmed && armed.rule.fits(call)) {
            if armed.rule.skip > 0 {
                armed.rule.skip -= 1;
                continue;
            }
            armed.struck += 1;
            armed.rule.left = armed.rule.left.map(|left| left - 1);
            return Some(armed.rule.fault.clone());
        }
        None
    }
}
