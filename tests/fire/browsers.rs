//! Uploads as browsers make them: one chunk in flight for each file, nothing sent twice, and what they saw.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use crate::client::Client;
use crate::world::{LATE, Upload, World, bytes, sha256};

/// How the uploads go.
#[derive(Clone, Copy)]
pub struct Manner {
    pub sessions: usize,
    /// Bytes of each file.
    pub file: usize,
    pub chunk: usize,
    /// From one chunk to the next, at least, until [`Browsers::hurry`].
    pub pause: Duration,
    /// How long an answer is waited for.
    pub patience: Duration,
}

impl Default for Manner {
    fn default() -> Self {
        let (pause, patience) = (Duration::from_millis(200), Duration::from_secs(60));
        Manner { sessions: 20, file: 1_200_000, chunk: 32 * 1024, pause, patience }
    }
}

/// Gigabytes may have to pass through a small machine.
const UPLOADED_WITHIN: Duration = Duration::from_secs(600);

/// How far the files of one session begin after those of the one before, in the bytes that they share.
const SHIFT: usize = 4096;

/// Uploads under way.
pub struct Browsers {
    pub uploads: Vec<Upload>,
    manner: Manner,
    bytes: Arc<Vec<u8>>,
    progress: Arc<Vec<Progress>>,
    hurry: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<Vec<Duration>>>,
}

/// What one browser has got so far.
#[derive(Default)]
struct Progress {
    acks: AtomicUsize,
    refused: AtomicUsize,
    unanswered: AtomicUsize,
    over: AtomicBool,
}

/// What all of them saw.
#[derive(Debug)]
pub struct Seen {
    pub acks: usize,
    pub nacks: usize,
    pub unanswered: usize,
    /// From one ack to the next in one upload, the pause included.
    pub largest_gap: Duration,
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "clients saw {} acks, {} nacks, {} chunks without an answer, largest gap between acks {:.1} s",
            self.acks,
            self.nacks,
            self.unanswered,
            self.largest_gap.as_secs_f64()
        )
    }
}

impl Seen {
    /// No answer but acks, and one for each chunk.
    pub fn assert_nothing_but_acks(&self, manner: &Manner) {
        assert_eq!((self.nacks, self.unanswered), (0, 0), "{self}");
        assert_eq!(self.acks, manner.sessions * manner.file.div_ceil(manner.chunk), "{self}");
    }
}

impl Browsers {
    /// Announces the files, all of one video, and begins to send them.
    pub async fn start(world: &World, client: &Arc<Client>, manner: Manner) -> Self {
        let uploads = world.announce(&vec![manner.file as i64; manner.sessions]).await;
        let bytes = Arc::new(bytes(7, manner.file + manner.sessions * SHIFT));
        let progress = Arc::new((0..manner.sessions).map(|_| Progress::default()).collect::<Vec<_>>());
        let hurry = Arc::new(AtomicBool::new(false));
        let browser = |number: usize| Browser {
            client: client.clone(),
            upload: uploads[number],
            number,
            manner,
            bytes: bytes.clone(),
            progress: progress.clone(),
            hurry: hurry.clone(),
        };
        let tasks = (0..manner.sessions).map(|number| tokio::spawn(browser(number).send())).collect();
        Browsers { uploads, manner, bytes, progress, hurry, tasks }
    }

    /// No more pauses.
    pub fn hurry(&self) {
        self.hurry.store(true, Ordering::Relaxed);
    }

    /// The file of the n-th upload.
    pub fn file(&self, number: usize) -> &[u8] {
        &self.bytes[number * SHIFT..][..self.manner.file]
    }

    pub fn digest(&self, number: usize) -> String {
        sha256(self.file(number))
    }

    /// How many chunks of each upload were acked so far.
    pub fn acks(&self) -> Vec<usize> {
        self.progress.iter().map(|one| one.acks.load(Ordering::SeqCst)).collect()
    }

    /// Chunks that were refused or never answered so far.
    pub fn hurt(&self) -> usize {
        let hurt =
            |one: &Progress| one.refused.load(Ordering::SeqCst) + one.unanswered.load(Ordering::SeqCst);
        self.progress.iter().map(hurt).sum()
    }

    /// Waits until so many chunks of each upload are acked.
    pub async fn reach(&self, world: &World, chunks: usize) {
        let what = format!("{chunks} chunks of each upload to be acked");
        world.wait(&what, UPLOADED_WITHIN, async || self.acks().iter().all(|acks| *acks >= chunks)).await;
    }

    /// Waits until every upload that is not over has got another ack, and says how long that took.
    pub async fn all_move(&self, world: &World) -> Duration {
        let (began, before) = (Instant::now(), self.acks());
        let moved = |(one, before): (&Progress, usize)| {
            one.over.load(Ordering::SeqCst) || one.acks.load(Ordering::SeqCst) > before
        };
        let all = async || self.progress.iter().zip(before.iter().copied()).all(moved);
        world.wait("every upload to go on", LATE, all).await;
        began.elapsed()
    }

    /// Waits for the end of all uploads.
    pub async fn end(&mut self) -> Seen {
        let mut largest_gap = Duration::ZERO;
        for task in self.tasks.drain(..) {
            let gaps = task.await.unwrap();
            largest_gap = gaps.into_iter().fold(largest_gap, Duration::max);
        }
        let sum = |field: fn(&Progress) -> &AtomicUsize| {
            self.progress.iter().map(|one| field(one).load(Ordering::SeqCst)).sum()
        };
        Seen {
            acks: sum(|one| &one.acks),
            nacks: sum(|one| &one.refused),
            unanswered: sum(|one| &one.unanswered),
            largest_gap,
        }
    }
}

impl Drop for Browsers {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// One upload.
struct Browser {
    client: Arc<Client>,
    upload: Upload,
    number: usize,
    manner: Manner,
    bytes: Arc<Vec<u8>>,
    progress: Arc<Vec<Progress>>,
    hurry: Arc<AtomicBool>,
}

impl Browser {
    /// Sends chunk after chunk until one is not acked; tells how long each ack came after the one before.
    async fn send(self) -> Vec<Duration> {
        let mut pace = tokio::time::interval(self.manner.pause.max(Duration::from_millis(1)));
        pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (mut gaps, mut newest) = (Vec::new(), Instant::now());
        let file = &self.bytes[self.number * SHIFT..][..self.manner.file];
        for (number, chunk) in file.chunks(self.manner.chunk).enumerate() {
            if !self.hurry.load(Ordering::Relaxed) && !self.manner.pause.is_zero() {
                pace.tick().await;
            }
            if !self.acked(number * self.manner.chunk, chunk).await {
                break;
            }
            gaps.push(newest.elapsed());
            newest = Instant::now();
        }
        self.progress[self.number].over.store(true, Ordering::SeqCst);
        gaps
    }

    async fn acked(&self, start: usize, chunk: &[u8]) -> bool {
        let progress = &self.progress[self.number];
        let answer = self.client.begin(&self.upload.session.to_string(), start as i64, chunk).await;
        let counter = match tokio::time::timeout(self.manner.patience, answer).await {
            Ok(Ok(answer)) if answer.is_ack() => &progress.acks,
            Ok(Ok(answer)) => {
                println!("{} at {start}: {answer:?}", self.upload.session);
                &progress.refused
            }
            Ok(Err(_)) | Err(_) => &progress.unanswered,
        };
        counter.fetch_add(1, Ordering::SeqCst);
        std::ptr::eq(counter, &progress.acks)
    }
}
