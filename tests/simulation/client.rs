//! Clients of the gateway: each uploads one file, chunk by chunk, and takes what it is told at its word.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use uploader_v4::domain::chunk::{Field, Headers, RawDelivery};
use uploader_v4::domain::invariants;
use uploader_v4::domain::session::Refusal;
use uploader_v4::domain::status::SessionState;

use super::onlooker;
use super::script::Manner;
use super::world::World;

/// No chunk waits longer for its answer than this.
const ANSWER_WITHIN: Duration = Duration::from_secs(400);
/// The smallest and the largest chunk.
const SIZES: (usize, usize) = (30, 120);

/// One client's place in its file.
pub struct Client {
    world: Rc<World>,
    upload: usize,
    sent: usize,
    at: usize,
}

/// A chunk on its way.
struct Sent {
    end: usize,
    correlation: String,
}

impl Client {
    pub fn new(world: Rc<World>, upload: usize) -> Self {
        Client { world, upload, sent: 0, at: 0 }
    }

    /// Uploads until the end, until it has enough, or until it is refused for good.
    pub async fn run(mut self) {
        let upload = &self.world.uploads[self.upload];
        let (end, chance) = (upload.stop_at, self.world.chance.clone());
        tokio::time::sleep(chance.millis(1, upload.begin_within)).await;
        while self.at < end && chance.violation().is_none() {
            if !self.step().await {
                break;
            }
        }
        let name = self.name();
        chance.say(&name, format!("ends at {} of {}", self.at, self.world.uploads[self.upload].file.len()));
        self.world.ended(self.upload, self.at);
    }

    fn name(&self) -> String {
        format!("c{}", self.upload)
    }

    /// Sends the next chunk, perhaps twice, perhaps after its successor, and hears the answers. `false`: it gives up.
    async fn step(&mut self) -> bool {
        let (chance, manner) = (self.world.chance.clone(), self.world.uploads[self.upload].manner);
        self.pause().await;
        let size = |from: usize| SIZES.0 + chance.below(SIZES.1 - SIZES.0) + from;
        let length = self.world.uploads[self.upload].file.len();
        let first = size(self.at).min(length);
        let mut waiting = Vec::new();
        if manner == Manner::Eager && first < length && chance.one_in(3) {
            let second = size(first).min(length);
            waiting.push(self.send(first, second));
        }
        waiting.push(self.send(self.at, first));
        if manner == Manner::Doubling && chance.one_in(4) {
            waiting.push(self.send(self.at, first));
        }
        // The one that is next is heard first.
        waiting.sort_by_key(|sent| sent.end);
        for sent in waiting {
            if !self.hear(sent).await {
                return false;
            }
        }
        true
    }

    /// Now and then long enough for its feed to be released.
    async fn pause(&self) {
        let (chance, pace) = (&self.world.chance, self.world.uploads[self.upload].pace);
        let span = if pace > 100 && chance.one_in(40) {
            chance.millis(8_000, 14_000)
        } else {
            chance.millis(1, pace)
        };
        tokio::time::sleep(span).await;
    }

    fn send(&mut self, from: usize, to: usize) -> Sent {
        let upload = &self.world.uploads[self.upload];
        self.sent += 1;
        let correlation = format!("c{}-{}", self.upload, self.sent);
        let text = |text: &str| Field::Text(text.as_bytes().to_vec());
        let headers = Headers {
            session: text(&upload.session.to_string()),
            start: Field::Integer(from as i64),
            size: Field::Integer((to - from) as i64),
            correlation: text(&correlation),
        };
        let body = Bytes::copy_from_slice(&upload.file[from..to]);
        self.world.chance.say(&self.name(), format!("{correlation} sends {from}..{to}"));
        self.world.sent(&correlation);
        self.world.broker.send(RawDelivery { headers, body, trace: None });
        Sent { end: to, correlation }
    }

    async fn hear(&mut self, sent: Sent) -> bool {
        let Some(reply) = self.world.answer(&sent.correlation, ANSWER_WITHIN).await else {
            self.unanswered(&sent.correlation);
            return false;
        };
        match reply.refusal {
            None => {
                self.check_ack(&sent);
                self.at = self.at.max(sent.end);
                true
            }
            Some(refusal) => self.refused(&sent, refusal).await,
        }
    }

    /// A reply that was kept back under an alarm ends with its replica, as PROTOCOL.md says. Nothing else excuses silence.
    fn unanswered(&self, correlation: &str) {
        let chance = &self.world.chance;
        if self.world.broker.settled_under_alarm(correlation) {
            return chance
                .say(&self.name(), format!("{correlation}: its reply was kept under an alarm, and lost"));
        }
        chance.violated(format!("{correlation} has no answer within {ANSWER_WITHIN:?}"));
    }

    fn check_ack(&self, sent: &Sent) {
        let upload = &self.world.uploads[self.upload];
        let row = self.world.store.row(upload.session);
        let runs = row.as_ref().map(|row| row.runs.clone()).unwrap_or_default();
        let stored = self.world.spool.stored(upload.session, &runs);
        let sighting = row.as_ref().and_then(onlooker::sighting);
        let sound = invariants::ack_is_sound(sent.end as i64, sighting.as_ref(), &upload.file, &stored);
        if let Err(broken) = sound {
            self.world.chance.violated(format!("{}: {broken}", sent.correlation));
        }
    }

    async fn refused(&mut self, sent: &Sent, refusal: Refusal) -> bool {
        let words = format!("{} refused: {}", sent.correlation, refusal.reason);
        self.world.chance.say(&self.name(), words.clone());
        if let Some(expected) = refusal.expected {
            let expected = usize::try_from(expected).unwrap_or(0);
            if expected < self.at {
                self.world.chance.violated(format!("{words}; {} bytes were acked", self.at));
            }
            self.at = expected.max(self.at);
        }
        if refusal.expected.is_some() || refusal.retryable {
            tokio::time::sleep(self.world.chance.millis(100, 1_000)).await;
            return true;
        }
        if !self.may_be_refused() {
            self.world.chance.violated(format!("{words}, for no reason that there is"));
        }
        false
    }

    /// The session has ended, or its video is blocked by a sibling that failed.
    fn may_be_refused(&self) -> bool {
        let video = self.world.uploads[self.upload].video;
        let session = self.world.uploads[self.upload].session;
        self.world.store.with(|tables| {
            let ended =
                tables.sessions.get(&session).is_none_or(|row| row.state().is_some() && !row.is_live());
            let mut siblings = tables.sessions.values().filter(|row| row.video == video);
            ended || siblings.any(|row| row.state() == Some(SessionState::Failed))
        })
    }
}
