//! What the operating system knows of processes: children, processor time, leftovers.

use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use devstack::Process;
use nix::unistd::Pid;

/// The kernel counts processor time in hundredths of a second, whatever its own clock's rate is.
const TICK: Duration = Duration::from_millis(10);

/// All ffmpeg processes that these have started.
pub(super) fn ffmpegs(parents: &[Rc<Process>]) -> Vec<Pid> {
    let of_ours =
        |stat: &Stat| stat.name == "ffmpeg" && parents.iter().any(|parent| parent.pid() == stat.parent);
    let mut found: Vec<_> =
        pids().into_iter().filter(|pid| stat(*pid).is_some_and(|stat| of_ours(&stat))).collect();
    found.sort_unstable();
    found.into_iter().filter_map(|pid| i32::try_from(pid).ok()).map(Pid::from_raw).collect()
}

/// The processor time that a process has used.
pub(super) fn cpu_time(pid: u32) -> Option<Duration> {
    stat(pid).map(|stat| TICK * stat.ticks)
}

/// Processes, other than this one, that work in a folder or were started with it in an argument. The broker's name
/// server does not count: it goes with the broker's owner.
pub(super) fn leftovers(folder: &Path) -> Vec<String> {
    let own = std::process::id();
    let folder_text = folder.to_string_lossy().into_owned();
    let belongs = |pid: &u32| {
        let cwd = std::fs::read_link(format!("/proc/{pid}/cwd"));
        let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        cwd.is_ok_and(|cwd| cwd.starts_with(folder))
            || String::from_utf8_lossy(&arguments).contains(&folder_text)
    };
    let found = pids().into_iter().filter(|pid| *pid != own).filter(belongs);
    let living = found.filter_map(|pid| stat(pid).map(|stat| (stat.name, pid)));
    living.filter(|(name, _)| name != "epmd").map(|(name, pid)| format!("{name} ({pid})")).collect()
}

struct Stat {
    name: String,
    parent: u32,
    ticks: u32,
}

/// None for a process that is gone, or has ended and waits for its parent to notice.
fn stat(pid: u32) -> Option<Stat> {
    parse(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

fn parse(text: &str) -> Option<Stat> {
    // The name stands in parentheses and may hold spaces and parentheses itself.
    let (head, tail) = text.rsplit_once(')')?;
    let (_, name) = head.split_once('(')?;
    let fields: Vec<&str> = tail.split_whitespace().collect();
    if *fields.first()? == "Z" {
        return None;
    }
    let number = |index: usize| fields.get(index)?.parse::<u32>().ok();
    Some(Stat { name: name.to_owned(), parent: number(1)?, ticks: number(11)? + number(12)? })
}

fn pids() -> Vec<u32> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_line_of_the_kernel_is_read_whatever_the_name() {
        let stat = parse("12 (a (b) c) S 7 1 1 0 -1 4 1 0 0 0 30 12 0 0 20 0 1").unwrap();
        assert_eq!((stat.name.as_str(), stat.parent, stat.ticks), ("a (b) c", 7, 42));
        assert!(parse("12 (x) Z 7 1 1 0 -1 4 1 0 0 0 30 12 0").is_none());
    }

    #[test]
    fn this_process_has_used_time_and_is_no_leftover() {
        assert!(cpu_time(std::process::id()).is_some());
        let here = std::env::current_dir().unwrap();
        let own = format!("({})", std::process::id());
        assert!(leftovers(&here).iter().all(|found| !found.ends_with(&own)));
    }
}
