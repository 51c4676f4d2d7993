//! How the C library's allocator is set up, which reads its settings once, before `main`.
//!
//! Left alone, glibc maps a large block anew and unmaps it when it is freed, until it has seen a freed one as large, and then
//! gives free memory at the end of its heaps back again and again: wherever a large chunk passes, its pages are cleared
//! and faulted in once more. It also keeps up to eight arenas per processor, each with free memory of its own.
//! `mallopt` could say so at run time, but not without unsafe code.

use std::ffi::OsStr;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::{env, io};

/// Where glibc looks for its settings; other C libraries ignore it.
pub const VARIABLE: &str = "GLIBC_TUNABLES";
/// Blocks of up to 32 MiB, the most that every version takes, come from the heap; up to 64 MiB at its end are kept, and
/// there are two arenas.
pub const TUNABLES: &str = "glibc.malloc.mmap_threshold=33554432:glibc.malloc.trim_threshold=67108864:\
     glibc.malloc.arena_max=2";

/// Set in the program that was begun again: a loader may take [`VARIABLE`] away.
const BEGUN_AGAIN: &str = "ALLOCATOR_SET_UP";

/// Begins this program again, in the same process and with the same arguments, unless `GLIBC_TUNABLES` is set: what an
/// operator has chosen stays. Returns where nothing is to be done.
///
/// # Errors
/// The program could not be begun again; it can go on as it is.
pub fn set_up() -> io::Result<()> {
    if env::var_os(VARIABLE).is_some() || env::var_os(BEGUN_AGAIN).is_some() {
        return Ok(());
    }
    let mut again = Command::new(env::current_exe()?);
    let mut arguments = env::args_os();
    if let Some(name) = arguments.next() {
        again.arg0(name);
    }
    Err(again.args(arguments).env(VARIABLE, OsStr::new(TUNABLES)).env(BEGUN_AGAIN, "1").exec())
}
