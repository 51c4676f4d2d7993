//! What happened when: faults with their beginning and end, and each upload from its client's side. Times count from
//! the beginning of the run.

use std::time::Duration;

use super::fault::Fault;

/// A fault that has struck.
#[derive(Clone, Debug)]
pub(super) struct Struck {
    pub(super) fault: Fault,
    pub(super) from: Duration,
    /// When whatever it broke was up again; none while it lasts.
    pub(super) to: Option<Duration>,
}

impl Struck {
    /// Whether it lasted at some time between the two, or began up to `after` before the first.
    pub(super) fn meets(&self, from: Duration, to: Duration, after: Duration) -> bool {
        self.from <= to && self.to.is_none_or(|end| end + after >= from)
    }
}

/// What a session's bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// Noise, from this seed: for the recording fflow.
    Noise(u64),
    /// The clip: for real ffmpeg.
    Clip,
}

/// How an upload ended for its client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The last byte was acked.
    Whole,
    /// The chunk was refused, or not answered: the browser gives up.
    Broken {
        /// When the chunk was sent.
        sent: Duration,
        /// When the client knew.
        known: Duration,
        /// The status of the answer; none without one.
        status: Option<u16>,
        /// What the answer said, or why there was none.
        why: String,
    },
}

/// One upload as its client saw it.
#[derive(Clone, Debug)]
pub(super) struct Upload {
    pub(super) session: String,
    pub(super) video: String,
    pub(super) flow: String,
    pub(super) total: u64,
    pub(super) content: Content,
    /// The cable that its client is on.
    pub(super) line: usize,
    /// Bytes in each of its chunks but the last.
    pub(super) chunk: u64,
    /// When each chunk was acked.
    pub(super) acks: Vec<Duration>,
    /// So many bytes are acked.
    pub(super) acked: u64,
    pub(super) begun: Duration,
    /// None while it goes on.
    pub(super) end: Option<End>,
}

impl Upload {
    /// The longest time between two acks, of those that a fault could have drawn out: `from` and `to` are its
    /// beginning and end.
    pub(super) fn longest_gap(&self, from: Duration, to: Duration) -> Option<Duration> {
        let times = || [self.begun].into_iter().chain(self.acks.iter().copied());
        let pairs = times().zip(times().skip(1)).filter(|(earlier, later)| *earlier <= to && *later >= from);
        pairs.map(|(earlier, later)| later - earlier).max()
    }
}

/// The bytes of a seed.
pub(super) fn noise(seed: u64, length: u64) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
    fastrand::Rng::with_seed(seed).fill(&mut bytes);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(number: u64) -> Duration {
        Duration::from_secs(number)
    }

    #[test]
    fn the_longest_gap_is_one_that_the_fault_could_have_made() {
        let upload = Upload {
            session: String::new(),
            video: String::new(),
            flow: String::new(),
            total: 4,
            content: Content::Noise(1),
            line: 0,
            chunk: 1,
            acks: [2, 10, 11, 14].map(seconds).to_vec(),
            acked: 4,
            begun: seconds(1),
            end: Some(End::Whole),
        };
        assert_eq!(upload.longest_gap(seconds(12), seconds(13)), Some(seconds(3)));
        assert_eq!(upload.longest_gap(seconds(5), seconds(13)), Some(seconds(8)));
        assert_eq!(upload.longest_gap(seconds(20), seconds(21)), None);
    }

    #[test]
    fn noise_is_the_same_for_the_same_seed() {
        assert_eq!(noise(5, 1000), noise(5, 1000));
        assert_ne!(noise(5, 1000), noise(6, 1000));
    }
}
