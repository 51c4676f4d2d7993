//! What the spool's volume is.

use std::path::Path;

use nix::errno::Errno;
use nix::sys::statfs::{self, FsType, statfs};
use nix::sys::statvfs::statvfs;

use super::{SpoolError, Volume};

/// File systems that one kernel has for itself. On others, network file systems above all, replicas of several hosts may
/// share a spool, and what one host has not synced another does not see.
const OF_ONE_KERNEL: [FsType; 6] = [
    statfs::EXT4_SUPER_MAGIC,
    statfs::XFS_SUPER_MAGIC,
    statfs::BTRFS_SUPER_MAGIC,
    statfs::F2FS_SUPER_MAGIC,
    statfs::TMPFS_MAGIC,
    statfs::OVERLAYFS_SUPER_MAGIC,
];

/// Whether everybody who has this folder has it from the same kernel.
///
/// # Errors
/// [`SpoolError::Io`] when the volume does not answer.
pub fn of_one_kernel(dir: &Path) -> Result<bool, SpoolError> {
    let stat = statfs(dir).map_err(|errno| failed(dir, errno))?;
    Ok(OF_ONE_KERNEL.contains(&stat.filesystem_type()))
}

pub(super) fn measure(dir: &Path) -> Result<Volume, SpoolError> {
    let stat = statvfs(dir).map_err(|errno| failed(dir, errno))?;
    let unit = stat.fragment_size();
    Ok(Volume { total: stat.blocks() * unit, free: stat.blocks_available() * unit })
}

fn failed(dir: &Path, errno: Errno) -> SpoolError {
    SpoolError::Io(format!("{}: {}", dir.display(), errno.desc()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_no_file_system_of_a_kernel_alone_is_told_from_what_is() {
        assert!(of_one_kernel(Path::new("/dev/shm")).unwrap(), "a tmpfs");
        assert!(!of_one_kernel(Path::new("/proc")).unwrap());
        assert!(of_one_kernel(Path::new("/no/such/folder")).is_err());
    }
}
