//! What fflow was asked and did for one session, process by process, and what it may therefore never see.
//!
//! It follows what *arrived* at the farm, whoever sent it and however late, so it judges all owners of a session at once.

use super::{Violation, require};
use crate::domain::ids::{Epoch, Generation};

/// The life of the processes of one session.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FarmHistory {
    total: i64,
    /// By generation, from the first one on.
    processes: Vec<Process>,
    /// Whose files are on holder.
    files: Option<Generation>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
struct Process {
    created: bool,
    /// The ownership that may feed it.
    feeder: Option<Epoch>,
    fed: i64,
    finishing: bool,
    failed: bool,
}

impl FarmHistory {
    /// A file of `total` bytes that no process has seen.
    pub fn new(total: i64) -> Self {
        FarmHistory { total, processes: Vec::new(), files: None }
    }

    fn process(&mut self, generation: Generation) -> &mut Process {
        let index = usize::try_from(generation.0).unwrap_or(0);
        if self.processes.len() <= index {
            self.processes.resize(index + 1, Process::default());
        }
        &mut self.processes[index]
    }

    /// Whose files are on holder, if anybody's.
    pub fn files(&self) -> Option<Generation> {
        self.files
    }

    /// A generation was written: its process is fed by this ownership.
    pub fn numbered(&mut self, generation: Generation, epoch: Epoch) {
        self.process(generation).feeder = Some(epoch);
    }

    /// A session was claimed as settled: its process is fed by this ownership from now on.
    pub fn handed_over(&mut self, generation: Generation, epoch: Epoch) {
        self.process(generation).feeder = Some(epoch);
    }

    /// A create arrived. No name is created twice, and none before its generation is written.
    pub fn created(&mut self, generation: Generation) -> Result<(), Violation> {
        let process = self.process(generation);
        let again = std::mem::replace(&mut process.created, true);
        require(!again, || format!("the name of {generation:?} was created twice"))?;
        require(process.feeder.is_some(), || format!("{generation:?} was created before it was written"))
    }

    /// A push arrived at a living process: the next bytes, from the ownership that may feed it.
    pub fn pushed(
        &mut self,
        generation: Generation,
        epoch: Epoch,
        from: i64,
        to: i64,
    ) -> Result<(), Violation> {
        let process = self.process(generation);
        let feeder = process.feeder;
        require(feeder == Some(epoch), || {
            format!("{epoch:?} pushed to {generation:?}, which {feeder:?} feeds: it was not handed over")
        })?;
        let fed = std::mem::replace(&mut process.fed, to);
        require(fed == from, || format!("{generation:?} had {fed} bytes and was fed {from}..{to}"))
    }

    /// A finish arrived at a living process. It was fed the whole file, and no other one works towards the same path.
    pub fn finish_begun(&mut self, generation: Generation) -> Result<(), Violation> {
        let total = self.total;
        let other = self.processes.iter().any(|process| process.finishing);
        let process = self.process(generation);
        process.finishing = true;
        let fed = process.fed;
        require(fed == total, || format!("{generation:?} is finished with {fed} of {total} bytes"))?;
        require(!other, || format!("{generation:?} ships while another process ships to the same path"))
    }

    /// It shipped: its files are on holder now.
    pub fn shipped(&mut self, generation: Generation) {
        self.files = Some(generation);
        self.process(generation).finishing = false;
    }

    /// It is gone.
    pub fn gone(&mut self, generation: Generation) {
        self.process(generation).finishing = false;
    }

    /// fflow failed it: it died, or answered an error, or worked longer than its time.
    pub fn failed(&mut self, generation: Generation) {
        self.process(generation).failed = true;
    }

    /// A strike was written for it: fflow failed it, not a takeover and not a crash of ours.
    pub fn struck(&mut self, generation: Generation) -> Result<(), Violation> {
        let failed = self.process(generation).failed;
        require(failed, || format!("a strike for {generation:?}, which fflow has not failed"))
    }

    /// The session became DONE: a process that got every byte has shipped.
    pub fn distributed(&self) -> Result<(), Violation> {
        let whole = self.files.is_some_and(|generation| {
            let index = usize::try_from(generation.0).unwrap_or(0);
            self.processes.get(index).is_some_and(|process| process.fed == self.total)
        });
        require(whole, || "DONE, but no process that was fed every byte has shipped".to_owned())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const ONE: Generation = Generation(1);
    const TWO: Generation = Generation(2);

    fn fed(generation: Generation, epoch: Epoch, farm: &mut FarmHistory) {
        farm.numbered(generation, epoch);
        farm.created(generation).unwrap();
        farm.pushed(generation, epoch, 0, 1).unwrap();
        farm.pushed(generation, epoch, 1, 2).unwrap();
    }

    #[test]
    fn a_process_that_is_fed_in_order_finished_and_shipped_may_be_distributed() {
        let mut farm = FarmHistory::new(2);
        fed(ONE, Epoch(1), &mut farm);
        assert!(farm.distributed().is_err());
        farm.finish_begun(ONE).unwrap();
        farm.shipped(ONE);
        assert_eq!(farm.files(), Some(ONE));
        farm.distributed().unwrap();
    }

    #[test]
    fn a_name_is_created_once_and_after_it_was_written() {
        let mut farm = FarmHistory::new(2);
        assert!(farm.created(ONE).is_err());
        farm.numbered(TWO, Epoch(1));
        farm.created(TWO).unwrap();
        assert!(farm.created(TWO).is_err());
    }

    #[test]
    fn a_byte_twice_a_gap_and_a_stranger_are_seen() {
        let mut farm = FarmHistory::new(2);
        farm.numbered(ONE, Epoch(1));
        farm.created(ONE).unwrap();
        farm.pushed(ONE, Epoch(1), 0, 1).unwrap();
        assert!(farm.clone().pushed(ONE, Epoch(1), 0, 1).is_err());
        assert!(farm.clone().pushed(ONE, Epoch(1), 2, 3).is_err());
        assert!(farm.clone().pushed(ONE, Epoch(2), 1, 2).is_err());
        farm.handed_over(ONE, Epoch(2));
        assert!(farm.clone().pushed(ONE, Epoch(1), 1, 2).is_err());
        farm.pushed(ONE, Epoch(2), 1, 2).unwrap();
    }

    #[test]
    fn two_processes_never_ship_at_once_and_none_with_half_a_file() {
        let mut farm = FarmHistory::new(2);
        fed(ONE, Epoch(1), &mut farm);
        fed(TWO, Epoch(2), &mut farm);
        farm.finish_begun(ONE).unwrap();
        assert!(farm.clone().finish_begun(TWO).is_err());
        farm.gone(ONE);
        farm.finish_begun(TWO).unwrap();
        farm.numbered(Generation(3), Epoch(3));
        assert!(farm.finish_begun(Generation(3)).is_err());
    }

    #[test]
    fn a_strike_needs_a_failure_of_fflow() {
        let mut farm = FarmHistory::new(2);
        assert!(farm.struck(ONE).is_err());
        farm.failed(ONE);
        farm.struck(ONE).unwrap();
    }
}
