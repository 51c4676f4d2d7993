//! Installs Debian packages without letting any of them start a service.
//!
//! The packages' own scripts ask `policy-rc.d` whether they may start their service. While apt-get runs, a
//! policy of ours that forbids it stands there; one that is already there is left alone and, if it allows
//! services to start, nothing is installed at all.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use indicatif::{ProgressBar, ProgressStyle};

const POLICY: &str = "/usr/sbin/policy-rc.d";
const POLICY_MARK: &str = "# put here by devstack for the time of one installation";
/// How long apt-get waits for another package manager to finish, in seconds.
const LOCK_TIMEOUT: &str = "DPkg::Lock::Timeout=600";
/// invoke-rc.d's word for "the policy forbids this action".
const FORBIDDEN: i32 = 101;

/// True as root on a system with apt-get.
#[must_use]
pub fn is_usable() -> bool {
    nix::unistd::geteuid().is_root() && super::in_path("apt-get").is_some()
}

/// Installs `packages`, updating the package lists first, with progress on standard error.
///
/// # Errors
/// When apt-get fails (its last lines are in the error), or when services could not be kept from starting.
pub fn install(packages: &[&str]) -> anyhow::Result<()> {
    let _one_at_a_time = installation_lock()?;
    let _policy = Policy::forbid(Path::new(POLICY))?;
    eprintln!("devstack: installing {}", packages.join(" "));
    let bar = progress_bar();
    let updated = run(&bar, "updating package lists", &["update"]);
    let mut args = vec!["install", "--yes", "--no-install-recommends"];
    args.extend_from_slice(packages);
    // A failed update is only reported when the installation fails too: one dead mirror must not stop it.
    let installed = updated
        .and_then(|()| run(&bar, "installing", &args))
        .or_else(|error| run(&bar, "installing", &args).with_context(|| format!("earlier: {error:#}")));
    bar.finish_and_clear();
    installed?;
    eprintln!("devstack: installed {}", packages.join(" "));
    Ok(())
}

/// Held while one installation runs, so that two processes do not take each other's policy away.
fn installation_lock() -> anyhow::Result<File> {
    let path = std::env::temp_dir().join("devstack-installation.lock");
    let file = File::options()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(&path)
        .with_context(|| format!("cannot open {}", path.display()))?;
    file.lock().with_context(|| format!("cannot lock {}", path.display()))?;
    Ok(file)
}

fn progress_bar() -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} {elapsed} {prefix}: {wide_msg}");
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = style {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// Runs apt-get in a process group of its own: a Ctrl-C in mid-installation would leave packages half set up.
fn run(bar: &ProgressBar, what: &'static str, args: &[&str]) -> anyhow::Result<()> {
    bar.set_prefix(what);
    let mut child = Command::new("apt-get")
        .args(["--quiet", "-o", LOCK_TIMEOUT, "-o", "Acquire::Retries=3", "-o", "Dpkg::Use-Pty=0"])
        .args(args)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .context("cannot start apt-get")?;
    let errors = child.stderr.take().map(collect_in_background);
    let said = child.stdout.take().map(|output| show(bar, what, output)).unwrap_or_default();
    let status = child.wait().context("cannot wait for apt-get")?;
    if status.success() {
        return Ok(());
    }
    let errors = errors.and_then(|reader| reader.join().ok()).unwrap_or_default();
    bail!("apt-get {} failed ({status}):\n{said}\n{errors}", args.join(" "))
}

/// Shows each line as it comes and returns the last ones.
fn show(bar: &ProgressBar, what: &str, output: impl std::io::Read) -> String {
    let mut last = std::collections::VecDeque::new();
    for line in BufReader::new(output).lines().map_while(Result::ok) {
        if bar.is_hidden() && (line.starts_with("Setting up") || line.starts_with("Fetched")) {
            eprintln!("devstack: {what}: {line}");
        }
        bar.set_message(line.clone());
        last.push_back(line);
        if last.len() > 20 {
            last.pop_front();
        }
    }
    Vec::from(last).join("\n")
}

fn collect_in_background(mut output: impl std::io::Read + Send + 'static) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut text = Vec::new();
        // Losing the tail of a failed command's complaints is no reason to fail differently.
        let _ = output.read_to_end(&mut text);
        String::from_utf8_lossy(&text).into_owned()
    })
}

/// Keeps services from starting for as long as it lives.
struct Policy {
    ours: Option<PathBuf>,
}

impl Policy {
    fn forbid(path: &Path) -> anyhow::Result<Self> {
        remove_leftover(path)?;
        if path.exists() {
            return Self::rely_on_existing(path);
        }
        let mut file = File::options()
            .write(true)
            .create_new(true)
            .open(path)
            .with_context(|| format!("cannot keep services from starting: {}", path.display()))?;
        let policy = Self { ours: Some(path.to_owned()) };
        file.write_all(format!("#!/bin/sh\n{POLICY_MARK}\nexit {FORBIDDEN}\n").as_bytes())?;
        file.set_permissions(std::fs::Permissions::from_mode(0o755))?;
        Ok(policy)
    }

    fn rely_on_existing(path: &Path) -> anyhow::Result<Self> {
        let status = Command::new(path)
            .args(["devstack-probe", "start"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .with_context(|| format!("cannot ask {}", path.display()))?;
        if status.code() == Some(FORBIDDEN) {
            return Ok(Self { ours: None });
        }
        bail!(
            "{} allows packages to start their services, and devstack neither overrules it nor starts any",
            path.display()
        )
    }
}

impl Drop for Policy {
    fn drop(&mut self) {
        if let Some(path) = &self.ours
            && let Err(error) = std::fs::remove_file(path)
        {
            eprintln!("devstack: remove {} by hand: {error}", path.display());
        }
    }
}

/// Removes the policy that a killed installation left behind; anybody else's stays.
fn remove_leftover(path: &Path) -> anyhow::Result<()> {
    match std::fs::read_to_string(path) {
        Ok(text) if text.contains(POLICY_MARK) => std::fs::remove_file(path)
            .with_context(|| format!("cannot remove the leftover {}", path.display())),
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn write_policy(path: &Path, exit: i32) {
        std::fs::write(path, format!("#!/bin/sh\nexit {exit}\n")).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    #[test]
    fn a_policy_of_ours_forbids_and_goes_away_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("policy-rc.d");
        let policy = Policy::forbid(&path).unwrap();
        assert_eq!(Command::new(&path).status().unwrap().code(), Some(FORBIDDEN));
        drop(policy);
        assert!(!path.exists());
    }

    #[test]
    fn an_existing_policy_stays_untouched() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("policy-rc.d");
        write_policy(&path, FORBIDDEN);
        let before = std::fs::read_to_string(&path).unwrap();
        drop(Policy::forbid(&path).unwrap());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), before);
    }

    #[test]
    fn a_policy_that_lets_services_start_stops_the_installation() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("policy-rc.d");
        write_policy(&path, 0);
        assert!(Policy::forbid(&path).is_err());
        assert!(path.exists());
    }

    #[test]
    fn the_leftover_of_a_killed_installation_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("policy-rc.d");
        std::fs::write(&path, format!("#!/bin/sh\n{POLICY_MARK}\nexit 101\n")).unwrap();
        drop(Policy::forbid(&path).unwrap());
        assert!(!path.exists());
    }
}
