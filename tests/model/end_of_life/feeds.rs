//! Feeds, from their claim to their end, as `feed::decide` has them.

use std::sync::LazyLock;
use std::time::Duration;

use uploader_v4::domain::feed::{Claim, Created, Event, Feed, Rules, Step, decide};
use uploader_v4::domain::ids::{Epoch, FlowId, Generation, ReplicaId, SessionId, Timestamp, VideoId};
use uploader_v4::domain::retry::Backoff;
use uploader_v4::domain::route::{AllowList, from_answer};
use uploader_v4::domain::status::{FlowStatus, SessionState};
use uuid::Uuid;

use super::world::{At, FeedMemory, Open, State, TOTAL, Write, only};
use super::{EndOfLife, Safeguard};

/// Steps from a claim to its end, many more than there are.
const STEPS: usize = 64;

fn settings() -> Rules {
    let second = Duration::from_secs(1);
    Rules {
        start_bytes: 1,
        push_block: TOTAL,
        push_linger: second,
        push_rate: 1 << 20,
        idle: second,
        backoff: Backoff { min: second, max: second },
        max_strikes: 3,
        strike_waits: vec![second],
        strike_span: second,
        holder: false,
        holder_poll: second,
        finish_base: second,
        finish_rate: 1,
        finish_grace: second,
    }
}

fn any_claim() -> Claim {
    Claim {
        session: SessionId(Uuid::nil()),
        flow: FlowId(Uuid::nil()),
        video: VideoId(Uuid::nil()),
        total: TOTAL,
        committed: TOTAL,
        sealed: true,
        epoch: Epoch(1),
        generation: Generation(0),
        flow_url: None,
        fed: 0,
        settled: false,
        farthest: 0,
        strikes: 0,
        finish_sent: None,
        failing: None,
        owner_died: false,
    }
}

/// What a farm without trouble answers.
fn good(step: &Step, feed: &Feed) -> Option<Event> {
    match step {
        Step::Wait { .. } => Some(Event::Time),
        Step::Resolve { .. } => Some(Event::Resolved(None)),
        Step::Number(_) => Some(Event::Numbered),
        Step::Create => {
            let allowed = AllowList::new(["http://fflow:4050"]);
            let address = from_answer("http://fflow:4050/r1/", &feed.name(), &allowed).ok()?;
            Some(Event::Created(Created::At(address)))
        }
        Step::Record(_) => Some(Event::Recorded),
        Step::Push { .. } => Some(Event::Pushed(Ok(()))),
        Step::Mark => Some(Event::Marked),
        Step::Finish => Some(Event::Finished(Ok(()))),
        Step::Complete | Step::Park(_) | Step::CleanUp { .. } | Step::Release { .. } => None,
        Step::Look | Step::Delete | Step::Weigh(_) | Step::Stay | Step::Stop { .. } => None,
    }
}

/// What a feed asks for at the end of its session, and after that.
struct Ending {
    asks: Step,
    then: Step,
}

/// Of a feed whose bytes were fed and finished, and of one whose bytes are damaged. Whose they are makes no difference.
static ENDINGS: LazyLock<[Ending; 2]> = LazyLock::new(|| [false, true].map(ending));

fn ending(damaged: bool) -> Ending {
    let settings = settings();
    let now = |step: usize| Timestamp(1_000_000 * step as u64);
    let (mut feed, mut step) = decide(Feed::new(any_claim(), now(0)), Event::Begin, now(0), 0.5, &settings);
    for round in 1..STEPS {
        let broken = damaged && matches!(step, Step::Push { .. });
        let event = if broken { Some(Event::Damaged("damaged".to_owned())) } else { good(&step, &feed) };
        let Some(event) = event else { break };
        (feed, step) = decide(feed, event, now(round), 0.5, &settings);
    }
    let heard = if damaged { Event::Parked } else { Event::Completed };
    let then = decide(feed, heard, now(STEPS), 0.5, &settings).1;
    Ending { asks: step, then }
}

impl FeedMemory {
    fn ending(&self) -> &'static Ending {
        &ENDINGS[usize::from(self.damaged)]
    }
}

impl EndOfLife {
    /// A claim: it fences whoever had the session before.
    pub fn claim(&self, state: &mut State, part: usize, replica: u8, damaged: bool) {
        let owner = ReplicaId(Uuid::from_u128(u128::from(replica)));
        let died = state.parts[part].own.as_ref().and_then(|own| own.owner);
        let awake = died.is_some_and(|died| {
            state
                .feeds
                .iter()
                .any(|feed| feed.part == part && feed.owner == died && feed.epoch == state.parts[part].epoch)
        });
        state.left = state.left.saturating_sub(u8::from(awake));
        let row = &mut state.parts[part];
        row.epoch += 1;
        row.own.iter_mut().for_each(|own| own.owner = Some(owner));
        let epoch = row.epoch;
        state.feeds.push(FeedMemory { part, owner, epoch, damaged, at: At::Ending, seen: None });
    }

    /// The next step of a feed: what `decide` asks for, carried out.
    pub fn feed(&self, state: &mut State, number: usize) {
        let memory = state.feeds[number].clone();
        match memory.at {
            At::Ending => match &memory.ending().asks {
                Step::Complete => self.begin_complete(state, number),
                Step::Park(_) => self.begin_park(state, number),
                other => state.note(Err(format!("a feed ends with {other:?}"))),
            },
            At::Written => {}
            At::Unsure => self.read_again(state, number),
            At::CleaningUp => {
                if let Step::CleanUp { keep_bytes } = memory.ending().then {
                    let keep = keep_bytes && self.has(Safeguard::ParkKeepsBytes);
                    state.parts[memory.part].bytes &= keep;
                }
                state.feeds.remove(number);
            }
        }
    }

    /// Whether a feed may write: the row says that it is still the owner, of this epoch, of a live session.
    fn guards(&self, state: &State, memory: &FeedMemory) -> bool {
        let row = &state.parts[memory.part];
        let owner = row.own.as_ref().and_then(|own| own.owner) == Some(memory.owner);
        (owner || !self.has(Safeguard::GuardNamesOwner))
            && (row.epoch == memory.epoch || !self.has(Safeguard::GuardNamesEpoch))
            && (row.is_live() || !self.has(Safeguard::GuardNamesState))
            && row.own.is_some()
    }

    fn begin_complete(&self, state: &mut State, number: usize) {
        let memory = state.feeds[number].clone();
        if !self.guards(state, &memory) {
            state.feeds.remove(number);
            return;
        }
        let flows = memory.seen.unwrap_or_else(|| state.flows());
        let others_play = (0..2).all(|other| other == memory.part || flows[other].is_none_or(is_distributed));
        let video_too = others_play || !self.has(Safeguard::VideoWaitsForAllFlows);
        let FeedMemory { part, epoch, owner, .. } = memory;
        self.open(state, number, Write::Complete { part, epoch, owner, video_too });
    }

    fn begin_park(&self, state: &mut State, number: usize) {
        let memory = state.feeds[number].clone();
        if !self.guards(state, &memory) {
            state.feeds.remove(number);
            return;
        }
        let FeedMemory { part, epoch, owner, .. } = memory;
        self.open(state, number, Write::Park { part, epoch, owner });
    }

    fn open(&self, state: &mut State, number: usize, write: Write) {
        let memory = &mut state.feeds[number];
        memory.at = At::Written;
        let locks = only(memory.part);
        state.open.push(Open { locks_video: self.has(Safeguard::VideoIsLocked), locks, write });
    }

    /// Nothing is known of the write: its row, under its lock, tells.
    fn read_again(&self, state: &mut State, number: usize) {
        let memory = &state.feeds[number];
        let row = &state.parts[memory.part];
        let wanted = if memory.damaged { SessionState::Failed } else { SessionState::Done };
        if row.epoch == memory.epoch && row.state() == Some(wanted) {
            state.feeds[number].at = At::CleaningUp;
        } else if self.guards(state, memory) {
            state.feeds[number].at = At::Ending;
        } else {
            state.feeds.remove(number);
        }
    }
}

pub fn is_distributed(flow: FlowStatus) -> bool {
    flow == FlowStatus::Distributed
}
