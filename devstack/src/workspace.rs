//! Where the servers of one run keep their data: `target/devstack/<run>/`.
//!
//! A workspace is removed with its owner. What a killed owner left behind is removed by the next one: a live
//! workspace holds a lock on its own folder, so a folder without one is nobody's.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::Context;

const LOCK: &str = "run.lock";
/// Set to keep the data and logs of a run for a look afterwards.
const KEEP: &str = "DEVSTACK_KEEP";

static RUNS: AtomicU32 = AtomicU32::new(0);

/// The folder of one run; removed on drop unless `DEVSTACK_KEEP` is set.
#[derive(Debug)]
pub struct Workspace {
    path: PathBuf,
    // Some servers refuse root; where the user they run as cannot reach the folder of the run, they get this one.
    elsewhere: Option<PathBuf>,
    _lock: File,
}

impl Workspace {
    /// Makes the folder `<label>-<process id>-<number>` and removes what killed runs left behind.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn new(label: &str) -> anyhow::Result<Self> {
        let root = root()?;
        std::fs::create_dir_all(&root).with_context(|| format!("cannot make {}", root.display()))?;
        let number = RUNS.fetch_add(1, Ordering::Relaxed);
        Self::within(&root, &format!("{label}-{}-{number}", std::process::id()))
    }

    fn within(root: &Path, name: &str) -> anyhow::Result<Self> {
        let _quiet = lock(&root.join("workspaces.lock"))?;
        remove_abandoned(root);
        let path = root.join(name);
        std::fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        let lock = lock(&path.join(LOCK))?;
        let elsewhere =
            (!everybody_reaches(&path)).then(|| std::env::temp_dir().join(format!("devstack-{name}")));
        if let Some(elsewhere) = &elsewhere {
            std::fs::create_dir_all(elsewhere)
                .with_context(|| format!("cannot make {}", elsewhere.display()))?;
        }
        Ok(Self { path, elsewhere, _lock: lock })
    }

    /// The folder itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes a folder inside, open to all, also to a server that runs as another user.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn folder(&self, name: &str) -> anyhow::Result<PathBuf> {
        let folder = self.path.join(name);
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(folder)
    }

    /// Like `folder`, but in a place that every user can reach: the temporary folder where the folder of the run
    /// lies below a private one, such as root's home.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn reachable_folder(&self, name: &str) -> anyhow::Result<PathBuf> {
        let folder = self.elsewhere.as_deref().unwrap_or(&self.path).join(name);
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(folder)
    }

    /// The path of a log file in the run's folder.
    #[must_use]
    pub fn log(&self, name: &str) -> PathBuf {
        self.path.join(format!("{name}.log"))
    }
}

impl Drop for Workspace {
    fn drop(&mut self) {
        if std::env::var_os(KEEP).is_some() {
            eprintln!("devstack: kept {}", self.path.display());
            return;
        }
        for folder in [Some(&self.path), self.elsewhere.as_ref()].into_iter().flatten() {
            // Whatever cannot be removed now is removed by the next run.
            let _ = std::fs::remove_dir_all(folder);
        }
    }
}

/// `target/devstack` of the target folder that the running program was built in.
///
/// # Errors
/// When neither the program's path nor the current folder tells where that is.
pub fn root() -> anyhow::Result<PathBuf> {
    Ok(target()?.join("devstack"))
}

/// The cargo target folder: `CARGO_TARGET_DIR`, or the one that holds the running program, or `./target`.
///
/// # Errors
/// When the current folder cannot be told.
pub fn target() -> anyhow::Result<PathBuf> {
    let here = std::env::current_dir().context("cannot tell the current folder")?;
    if let Some(target) = std::env::var_os("CARGO_TARGET_DIR") {
        return Ok(here.join(target));
    }
    let program = std::env::current_exe().context("cannot tell the program's path")?;
    let marked = program.ancestors().skip(1).find(|folder| folder.join("CACHEDIR.TAG").is_file());
    Ok(marked.map_or_else(|| here.join("target"), Path::to_owned))
}

fn lock(path: &Path) -> anyhow::Result<File> {
    let file = File::options().create(true).append(true).open(path);
    let file = file.with_context(|| format!("cannot open {}", path.display()))?;
    file.lock().with_context(|| format!("cannot lock {}", path.display()))?;
    Ok(file)
}

fn remove_abandoned(root: &Path) {
    let Ok(entries) = std::fs::read_dir(root) else { return };
    for folder in entries.flatten().map(|entry| entry.path()) {
        let Ok(lock) = File::options().append(true).open(folder.join(LOCK)) else { continue };
        if lock.try_lock().is_ok() && std::env::var_os(KEEP).is_none() {
            let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let _ = std::fs::remove_dir_all(std::env::temp_dir().join(format!("devstack-{name}")));
            let _ = std::fs::remove_dir_all(&folder);
        }
    }
}

/// True when every folder down to `path` may be entered by any user.
fn everybody_reaches(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.ancestors()
        .all(|folder| std::fs::metadata(folder).is_ok_and(|meta| meta.permissions().mode() & 0o001 != 0))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn a_workspace_goes_away_with_its_owner_and_leaves_live_ones_alone() {
        let root = tempfile::tempdir().unwrap();
        let live = Workspace::within(root.path(), "live").unwrap();
        let brief = Workspace::within(root.path(), "brief").unwrap();
        std::fs::write(brief.folder("data").unwrap().join("file"), b"x").unwrap();
        let path = brief.path().to_owned();
        drop(brief);
        assert!(!path.exists());
        assert!(live.path().exists());
    }

    #[test]
    fn an_abandoned_workspace_is_removed_by_the_next() {
        let root = tempfile::tempdir().unwrap();
        let abandoned = root.path().join("abandoned");
        std::fs::create_dir(&abandoned).unwrap();
        std::fs::write(abandoned.join(LOCK), b"").unwrap();
        let foreign = root.path().join("ports");
        std::fs::create_dir(&foreign).unwrap();
        let _next = Workspace::within(root.path(), "next").unwrap();
        assert!(!abandoned.exists());
        assert!(foreign.exists());
    }

    #[test]
    fn a_private_folder_is_not_reached_by_everybody() {
        use std::os::unix::fs::PermissionsExt;
        let root = tempfile::tempdir().unwrap();
        std::fs::set_permissions(root.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
        assert!(!everybody_reaches(root.path()));
        assert!(everybody_reaches(Path::new("/usr/bin")));
    }
}
