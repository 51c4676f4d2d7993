//! How many files this process may have open, sockets among them.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::SpoolError;

/// Files kept open for appending at most: sessions beyond that pay for opening theirs again.
const MOST: usize = 8192;

/// Raises the limit as far as this process may, and says how many files of it may be kept open for appending: a quarter.
/// The rest is for feeds, which have a connection each and a file now and then.
///
/// # Errors
/// The system does not tell its limit, or does not keep to it.
pub fn claim() -> Result<usize, SpoolError> {
    let failed = |errno: nix::Error| SpoolError::Io(format!("the limit of open files: {}", errno.desc()));
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).map_err(failed)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).map_err(failed)?;
    Ok(usize::try_from(hard / 4).unwrap_or(usize::MAX).clamp(1, MOST))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_limit_is_raised_to_what_is_allowed() {
        let writers = claim().unwrap();
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        assert_eq!(soft, hard);
        assert!((1..=MOST).contains(&writers) && writers as u64 <= hard.div_ceil(4), "{writers} of {hard}");
    }
}
