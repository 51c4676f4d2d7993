//! Logs of the peers: text on standard error, filtered by `RUST_LOG`.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// The servers below tell every file and every port; that is wanted only when something is looked for.
const USUAL: &str = "info,libunftp=warn,actix_server=warn,lapin=warn,sqlx=warn";

/// Starts logging; a second call changes nothing.
pub fn log_to_stderr() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(USUAL));
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .try_init();
}
