//! What machine the figures are from.

use std::process::Command;

use devstack::workspace;
use serde_json::{Value, json};

/// Processor, memory, kernel, the volume that is written, and how the programs were built.
pub(crate) fn describe() -> Value {
    json!({
        "cpus": std::thread::available_parallelism().map_or(0, usize::from),
        "cpu": line_of("/proc/cpuinfo", "model name"),
        "memory": memory(),
        "kernel": kernel(),
        "volume": volume(),
        "build": if cfg!(debug_assertions) { "debug" } else { "release" },
    })
}

/// To the next GiB.
fn memory() -> Option<String> {
    let kib: u64 = line_of("/proc/meminfo", "MemTotal")?.split(' ').next()?.parse().ok()?;
    Some(format!("{} GiB", kib.div_ceil(1 << 20)))
}

/// Its version without the build: that would name one machine and not its kind.
fn kernel() -> Option<String> {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").ok()?;
    Some(release.trim().split('-').next()?.to_owned())
}

fn line_of(path: &str, field: &str) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    let line = text.lines().find(|line| line.starts_with(field))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// The file system of the folder that everything is written to.
fn volume() -> Option<String> {
    let target = workspace::target().ok()?;
    let output = Command::new("df").args(["--output=fstype"]).arg(target).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Some(text.lines().nth(1)?.trim().to_owned())
}
