//! Starts the built programs that stand beside the running one.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use devstack::http;
use devstack::{Endpoints, PortLease, Process, ProcessBuilder, Workspace, wait_until};

const READY: Duration = Duration::from_secs(60);
const TALK: Duration = Duration::from_secs(3);

/// A program of this workspace with a log in the demo's workspace.
pub(crate) fn program(name: &str, role: &str, workspace: &Workspace) -> anyhow::Result<ProcessBuilder> {
    let here = std::env::current_exe().context("cannot tell the program's path")?;
    let path: PathBuf = here.with_file_name(name);
    if !path.is_file() {
        bail!("{} is not built: cargo build --workspace", path.display());
    }
    Ok(Process::command(path).name(role).log(workspace.log(role)).current_dir(workspace.path()))
}

/// Starts a program and waits until `path` on its port answers 200.
pub(crate) async fn start(builder: ProcessBuilder, port: &PortLease, path: &str) -> anyhow::Result<Process> {
    let process = builder.start()?;
    let url = format!("http://{}{path}", port.address());
    let answers = async || match http::get(&url, TALK).await {
        Ok(answer) => answer.status == 200 || !process.is_running(),
        Err(_) => !process.is_running(),
    };
    let waited = wait_until(&format!("{} is ready", process.name()), READY, answers).await;
    if waited.is_err() || !process.is_running() {
        bail!("{} did not get ready\nthe end of its log:\n{}", process.name(), process.log_tail(15));
    }
    Ok(process)
}

/// The environment of every uploader of one farm.
pub(crate) struct UploaderSettings {
    pub(crate) endpoints: Endpoints,
    pub(crate) database_url: String,
    pub(crate) fflow_url: String,
    pub(crate) holder_url: String,
    pub(crate) spool: PathBuf,
}

impl UploaderSettings {
    pub(crate) fn apply(&self, builder: ProcessBuilder) -> ProcessBuilder {
        builder
            .env("AMQP_CONNECTION_STRING", &self.endpoints.amqp_url)
            .env("DB_CONNECTION_STRING", &self.database_url)
            .env("FFLOW_CACHE_HOST", &self.endpoints.redis_host)
            .env("FFLOW_CACHE_PORT", self.endpoints.redis_port.to_string())
            .env("FFLOW_CACHE_DB", "0")
            .env("FFLOW_BASE_URL", &self.fflow_url)
            .env("UPLOADER_FFLOW_ALLOWED", &self.fflow_url)
            .env("UPLOADER_HOLDER_BASE_URL", &self.holder_url)
            .env("UPLOADER_SPOOL_DIR", &self.spool)
    }

    /// Starts one replica; the `standalone` also runs the janitor.
    pub(crate) async fn serve(
        &self,
        role: &str,
        standalone: bool,
        workspace: &Workspace,
    ) -> anyhow::Result<Process> {
        let port = PortLease::take()?;
        let address: SocketAddr = port.address().parse().context("a port without an address")?;
        let builder = self
            .apply(program("uploader-v4", role, workspace)?)
            .arg("serve")
            .env("UPLOADER_HTTP_ADDR", address.to_string())
            .env("SCHEDULER_CLEAR_UPLOAD_RESOURCES_ENABLED", standalone.to_string());
        start(builder, &port, "/readyz").await
    }
}
