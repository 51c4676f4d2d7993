//! Free loopback ports, each leased to one holder.
//!
//! Several processes look for ports at the same time, and between finding a port free and a server binding it
//! another process could find the same one. A lease is a locked file, so the kernel gives it back however its
//! holder ends. All ports lie below the ephemeral range, from which outgoing connections take theirs.

use std::fs::File;
use std::net::TcpListener;
use std::path::Path;

use anyhow::{Context, bail};

use crate::workspace;

const FIRST: u16 = 20_000;
const COUNT: u16 = 12_000;

/// A loopback port that nobody else who leases ports gets while this lives.
#[derive(Debug)]
pub struct PortLease {
    number: u16,
    _lock: File,
}

impl PortLease {
    /// Leases one port that is free now.
    ///
    /// # Errors
    /// When none is free or the lock files cannot be written.
    pub fn take() -> anyhow::Result<Self> {
        let mut leases = Self::take_block(1)?;
        leases.pop().context("a block without a port")
    }

    /// Leases `count` ports in a row that are free now, in rising order.
    ///
    /// # Errors
    /// When no such block is free or the lock files cannot be written.
    pub fn take_block(count: u16) -> anyhow::Result<Vec<Self>> {
        let folder = workspace::root()?.join("ports");
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        if count == 0 || count > COUNT {
            bail!("a block of {count} ports");
        }
        // A random start keeps processes that begin together, also those with other lock files, apart.
        let start = fastrand::u16(0..COUNT);
        for step in (0..COUNT).step_by(usize::from(count)) {
            let first = FIRST + (start + step) % COUNT;
            if first + count <= FIRST + COUNT
                && let Some(leases) = lease_all(&folder, first, count)?
            {
                return Ok(leases);
            }
        }
        bail!("no {count} free loopback ports in a row between {FIRST} and {}", FIRST + COUNT)
    }

    /// The port.
    #[must_use]
    pub fn number(&self) -> u16 {
        self.number
    }

    /// `127.0.0.1:<port>`.
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.number)
    }
}

fn lease_all(folder: &Path, first: u16, count: u16) -> anyhow::Result<Option<Vec<PortLease>>> {
    (first..first + count).map(|number| lease(folder, number)).collect()
}

fn lease(folder: &Path, number: u16) -> anyhow::Result<Option<PortLease>> {
    let path = folder.join(number.to_string());
    let lock = File::options().create(true).append(true).open(&path);
    let lock = lock.with_context(|| format!("cannot open {}", path.display()))?;
    let free = lock.try_lock().is_ok() && is_free(number);
    Ok(free.then_some(PortLease { number, _lock: lock }))
}

fn is_free(number: u16) -> bool {
    TcpListener::bind(("127.0.0.1", number)).is_ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn leases_are_distinct_and_below_the_ephemeral_range() {
        let leases: Vec<PortLease> = (0..50).map(|_| PortLease::take().unwrap()).collect();
        let numbers: std::collections::BTreeSet<u16> = leases.iter().map(PortLease::number).collect();
        assert_eq!(numbers.len(), 50);
        assert!(numbers.iter().all(|number| (20_000..32_768).contains(number)));
    }

    #[test]
    fn a_block_is_in_a_row() {
        let block = PortLease::take_block(10).unwrap();
        assert!(block.windows(2).all(|pair| pair[1].number() == pair[0].number() + 1));
    }

    #[test]
    fn a_leased_or_bound_port_is_not_leased_again() {
        let folder = tempfile::tempdir().unwrap();
        let port = PortLease::take().unwrap();
        let listener = TcpListener::bind(("127.0.0.1", port.number())).unwrap();
        assert!(lease(folder.path(), port.number()).unwrap().is_none());
        drop(listener);
        let held = lease(folder.path(), port.number()).unwrap();
        assert!(held.is_some());
        assert!(lease(folder.path(), port.number()).unwrap().is_none());
        drop(held);
        assert!(lease(folder.path(), port.number()).unwrap().is_some());
    }
}
