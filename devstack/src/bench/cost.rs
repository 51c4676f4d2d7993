//! What processes cost, read from /proc: time of the processor and memory.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::Context;

/// What the kernel counts processor time in; 100 to the second for every program on Linux (proc(5), USER_HZ).
const TICK: Duration = Duration::from_millis(10);

/// Processor time of a process and everything below it, also of what ended and was waited for.
pub(crate) fn of_tree(root: u32) -> anyhow::Result<Duration> {
    let processes = processes()?;
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for (pid, stat) in &processes {
        children.entry(stat.parent).or_default().push(*pid);
    }
    let (mut total, mut open) = (Duration::ZERO, vec![root]);
    while let Some(pid) = open.pop() {
        total += processes.get(&pid).map_or(Duration::ZERO, |stat| stat.own + stat.ended_children);
        open.extend(children.remove(&pid).unwrap_or_default());
    }
    Ok(total)
}

/// Processor time of this process alone.
pub(crate) fn of_self() -> anyhow::Result<Duration> {
    let text = std::fs::read_to_string("/proc/self/stat").context("cannot read /proc/self/stat")?;
    Ok(Stat::parse(&text).context("a strange /proc/self/stat")?.own)
}

/// The most memory that a process ever had resident, in KiB.
pub(crate) fn peak_kib(pid: u32) -> anyhow::Result<u64> {
    status(pid, "VmHWM:")
}

/// The memory that a process has resident now, in KiB.
pub(crate) fn resident_kib(pid: u32) -> anyhow::Result<u64> {
    status(pid, "VmRSS:")
}

fn status(pid: u32, field: &str) -> anyhow::Result<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).context("a process is gone")?;
    let value = text.lines().find_map(|line| line.strip_prefix(field)?.split_whitespace().next());
    value.and_then(|value| value.parse().ok()).with_context(|| format!("no {field} of process {pid}"))
}

struct Stat {
    parent: u32,
    own: Duration,
    ended_children: Duration,
}

impl Stat {
    /// The name, in parentheses, may hold anything: what follows is counted from its end.
    fn parse(text: &str) -> Option<Self> {
        let fields: Vec<&str> = text[text.rfind(')')? + 1..].split_whitespace().collect();
        let ticks = |field: usize| Some(TICK * fields.get(field)?.parse::<u32>().ok()?);
        Some(Stat {
            parent: fields.get(1)?.parse().ok()?,
            own: ticks(11)? + ticks(12)?,
            ended_children: ticks(13)? + ticks(14)?,
        })
    }
}

fn processes() -> anyhow::Result<HashMap<u32, Stat>> {
    let entries = std::fs::read_dir("/proc").context("cannot read /proc")?;
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_string_lossy().parse().ok());
    // Processes end while this looks at them.
    let stat =
        |pid: u32| Some((pid, Stat::parse(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?));
    Ok(pids.filter_map(stat).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn times_are_found_behind_a_name_with_parentheses() {
        let stat = Stat::parse("7 (a) b (c) S 3 7 7 0 -1 4194560 1 2 3 4 150 50 20 10 20 0 1 0").unwrap();
        assert_eq!(stat.parent, 3);
        assert_eq!((stat.own, stat.ended_children), (Duration::from_secs(2), Duration::from_millis(300)));
    }

    #[test]
    fn this_process_costs_at_least_what_it_did_a_moment_before() {
        let pid = std::process::id();
        let (resident, time) = (resident_kib(pid).unwrap(), of_self().unwrap());
        // The kernel counts pages for each processor and adds them up now and then: not exact.
        assert!(peak_kib(pid).unwrap() >= resident / 2);
        assert!(of_tree(pid).unwrap() >= time);
    }
}
