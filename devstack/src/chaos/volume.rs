//! The spool's volume: a small file system in memory, so that it can be filled. Mounting it needs a mount namespace of
//! this command's own, which an ordinary user gets too; with the command, however it ends, the mount is gone.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use devstack::{Process, Workspace, tools};

/// Set in the namespace.
const INSIDE: &str = "DEVSTACK_CHAOS_NAMESPACE";
/// What all uploads together may reserve, in MiB; the volume has half as much again, for framing and pages.
pub(super) const QUOTA_MIB: u64 = 256;
const VOLUME_MIB: u64 = 384;
const BLOCKS: [usize; 2] = [1 << 20, 1 << 12];
const MOUNTING: std::time::Duration = std::time::Duration::from_secs(10);

/// Replaces this process by itself in a mount namespace of its own; where there is none to be had it goes on as it is.
///
/// # Errors
/// When it cannot be replaced although a namespace can be had.
pub(super) fn enter_namespace() -> anyhow::Result<()> {
    if std::env::var_os(INSIDE).is_some() {
        return Ok(());
    }
    let Some(unshare) = tools::in_path("unshare") else { return Ok(()) };
    let arguments: &[&str] = if nix::unistd::geteuid().is_root() {
        &["--mount", "--propagation", "private", "--"]
    } else {
        &["--user", "--map-current-user", "--keep-caps", "--mount", "--"]
    };
    let tried = Command::new(&unshare).args(arguments).arg("true").output();
    if !tried.is_ok_and(|tried| tried.status.success()) {
        return Ok(());
    }
    let here = std::env::current_exe().context("cannot tell the program's path")?;
    let mut again = Command::new(unshare);
    again.args(arguments).arg(here).args(std::env::args_os().skip(1)).env(INSIDE, "1");
    Err(again.exec()).context("cannot start again in a namespace")
}

/// The folder of the spool.
pub(super) struct Volume {
    root: PathBuf,
    small: bool,
}

impl Volume {
    /// Makes the folder, on a small volume of its own where that can be had.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) async fn make(workspace: &Workspace) -> anyhow::Result<Self> {
        let root = workspace.folder("volume")?;
        let small = std::env::var_os(INSIDE).is_some() && mount(&root, workspace).await.is_ok();
        std::fs::create_dir_all(root.join("spool")).context("cannot make the spool")?;
        Ok(Self { root, small })
    }

    /// The spool's folder.
    pub(super) fn spool(&self) -> PathBuf {
        self.root.join("spool")
    }

    /// True when it can be filled without filling the machine's own disk.
    pub(super) fn is_small(&self) -> bool {
        self.small
    }

    /// Takes every byte that is left.
    ///
    /// # Errors
    /// When it is not a volume of its own, or nothing can be written at all.
    pub(super) fn fill(&self) -> anyhow::Result<()> {
        if !self.small {
            bail!("the spool has no volume of its own");
        }
        let mut ballast = std::fs::File::create(self.ballast()).context("cannot write the ballast")?;
        for block in BLOCKS {
            let bytes = vec![0; block];
            while ballast.write_all(&bytes).is_ok() {}
        }
        Ok(())
    }

    /// Gives the bytes back; nothing to give is fine.
    pub(super) fn free(&self) -> anyhow::Result<()> {
        match std::fs::remove_file(self.ballast()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).context("cannot remove the ballast")
            }
            _ => Ok(()),
        }
    }

    fn ballast(&self) -> PathBuf {
        self.root.join("ballast")
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        if self.small {
            // The namespace takes it along in any case; without it the workspace can be removed already now.
            let _ = Command::new("umount").arg("--lazy").arg(&self.root).output();
        }
    }
}

async fn mount(root: &Path, workspace: &Workspace) -> anyhow::Result<()> {
    let process = Process::command("mount")
        .args(["-t", "tmpfs", "-o", &format!("size={VOLUME_MIB}m,mode=0777"), "devstack-chaos"])
        .arg(root)
        .log(workspace.log("mount"))
        .start()?;
    let status = process.wait_exit(MOUNTING).await?;
    if !status.success() {
        bail!("mount failed ({status})");
    }
    Ok(())
}
