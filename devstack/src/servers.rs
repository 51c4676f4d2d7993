//! Private servers: each on a loopback port of its own, with data in a workspace, stopped when dropped.

pub mod nginx;
pub mod postgres;
pub mod rabbitmq;
pub mod redis;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::bail;

use crate::process::Process;
use crate::wait::retry_until;

/// How often a server is started on fresh ports when it does not come up: something else may have taken one.
pub(crate) const START_ATTEMPTS: usize = 3;

/// How a server shows who it is: three PEM files that already exist.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The certificate of the authority that signed it.
    pub authority: PathBuf,
    /// The server's own certificate.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// Talks to a starting server until it answers sensibly.
///
/// # Errors
/// When it ends before that or is not ready at the deadline; the end of its log is in the error.
pub(crate) async fn ready<F>(process: &Process, deadline: Duration, talk: F) -> anyhow::Result<()>
where
    F: AsyncFnMut() -> anyhow::Result<()>,
{
    let what = format!("{} answers", process.name());
    let ended = process.wait_exit(deadline);
    tokio::select! {
        answered = retry_until(&what, deadline, talk) => {
            answered.map_err(|error| error.context(format!("{} is not ready{}", process.name(), process.log_for_error())))
        }
        Ok(status) = ended => bail!("{} ended at its start ({status}){}", process.name(), process.log_for_error()),
    }
}
