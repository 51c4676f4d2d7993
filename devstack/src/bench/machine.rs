//! What machine the figures are from.

use std::process::Command;

use devstack::workspace;
use serde_json::{Value, json};

/// Processor, memory, kernel, the volume that is written, and how the programs were built.
pub(crate) fn describe() -> Value {
    json!({
        "cpus": std::thread::available_parallelism().map_or(0, usize::from),
        "cpu": line_of("/proc/cpuinfo", "model name"),
        "memory": line_of("/proc/meminfo", "MemTotal"),
        "kernel": read("/proc/sys/kernel/osrelease"),
        "volume": volume(),
        "build": if cfg!(debug_assertions) { "debug" } else { "release" },
    })
}

fn read(path: &str) -> Option<String> {
    std::fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

fn line_of(path: &str, field: &str) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    let line = text.lines().find(|line| line.starts_with(field))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// Device, file system and mount point of the folder that everything is written to.
fn volume() -> Option<String> {
    let target = workspace::target().ok()?;
    let output = Command::new("df").args(["--output=source,fstype,target"]).arg(target).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Some(text.lines().nth(1)?.split_whitespace().collect::<Vec<_>>().join(" "))
}
