//! What is measured: the matrix of chunk sizes, sessions and replicas, and how long each cell takes.

use std::fmt;
use std::time::Duration;

use anyhow::bail;

const KIB: usize = 1 << 10;
/// Bytes of a chunk, and how many sessions send such chunks at once.
const MATRIX: [(usize, &[usize]); 3] =
    [(8 * KIB, &[1, 10, 100, 500, 5_000]), (64 * KIB, &[10, 100]), (1_024 * KIB, &[1, 10, 32])];
/// Replicas of the service, and of the echo beside it.
const REPLICAS: [usize; 2] = [1, 2];

/// Figures of a kind of their own, beside the matrix.
pub(crate) const SPECIALS: [&str; 6] = ["ready", "idle", "stalled", "lag", "replay", "replicas"];

/// One cell of the matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Scenario {
    /// Bytes of a chunk.
    pub(crate) bytes: usize,
    /// Sessions that upload at once, each with one chunk in flight.
    pub(crate) sessions: usize,
    /// Processes of the service.
    pub(crate) replicas: usize,
}

impl Scenario {
    pub(crate) const fn new(bytes: usize, sessions: usize, replicas: usize) -> Self {
        Scenario { bytes, sessions, replicas }
    }
}

/// `8k_100`, and `8k_100_r2` with two replicas: how a cell is named in reports and on the command line.
impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.bytes / KIB {
            mib if mib >= KIB => write!(f, "{}m_{}", mib / KIB, self.sessions)?,
            kib => write!(f, "{kib}k_{}", self.sessions)?,
        }
        match self.replicas {
            1 => Ok(()),
            more => write!(f, "_r{more}"),
        }
    }
}

/// How long is measured.
#[derive(Debug, Clone, Copy, serde::Serialize)]
pub(crate) struct Pace {
    /// Rounds of each of the things compared, one after another.
    pub(crate) rounds: usize,
    /// One round.
    pub(crate) window: Duration,
    /// The load before the first round, uncounted.
    pub(crate) warm_up: Duration,
}

/// What was asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Choice {
    pub(crate) cells: Vec<Scenario>,
    pub(crate) specials: Vec<&'static str>,
}

fn matrix() -> impl Iterator<Item = Scenario> {
    let of = |replicas| {
        MATRIX.iter().flat_map(move |(bytes, sessions)| {
            sessions.iter().map(move |&count| Scenario::new(*bytes, count, replicas))
        })
    };
    REPLICAS.into_iter().flat_map(of)
}

impl Choice {
    /// The names in `only`, separated by commas; everything when it is empty. `matrix` means all cells.
    ///
    /// # Errors
    /// On a name that nothing has; the text lists them all.
    pub(crate) fn parse(only: &str) -> anyhow::Result<Self> {
        let names: Vec<&str> = only.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
        let (all, whole_matrix) = (names.is_empty(), names.contains(&"matrix"));
        let wanted = |name: &str| all || names.contains(&name);
        let cells: Vec<_> = matrix().filter(|cell| whole_matrix || wanted(&cell.to_string())).collect();
        let specials: Vec<_> = SPECIALS.into_iter().filter(|name| wanted(name)).collect();
        let known = |name: &&&str| {
            **name == "matrix"
                || SPECIALS.contains(*name)
                || cells.iter().any(|cell| cell.to_string() == **name)
        };
        if let Some(unknown) = names.iter().find(|name| !known(name)) {
            let cells: Vec<String> = matrix().map(|cell| cell.to_string()).collect();
            bail!(
                "nothing to measure is called {unknown}: matrix, {}, {}",
                cells.join(", "),
                SPECIALS.join(", ")
            );
        }
        Ok(Choice { cells, specials })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn without_a_choice_everything_is_measured() {
        let all = Choice::parse("").unwrap();
        assert_eq!((all.cells.len(), all.specials.len()), (20, SPECIALS.len()));
    }

    #[test]
    fn cells_are_chosen_by_name() {
        let chosen = Choice::parse("8k_100, 1m_32_r2,idle").unwrap();
        let expected = [Scenario::new(8 << 10, 100, 1), Scenario::new(1 << 20, 32, 2)];
        assert_eq!((chosen.cells, chosen.specials), (expected.to_vec(), vec!["idle"]));
        assert_eq!(Choice::parse("matrix").unwrap().cells.len(), 20);
        assert!(Choice::parse("8k_7").unwrap_err().to_string().contains("64k_100"));
    }
}
