//! Starts the built programs that stand beside the running one.

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
    let builder = Process::command(path).name(role).log(workspace.log(role)).current_dir(workspace.path());
    let inherited = std::env::vars_os().map(|(name, _)| name);
    Ok(inherited
        .filter(|name| is_setting(&name.to_string_lossy()))
        .fold(builder, |builder, name| builder.env_remove(name)))
}

/// True for the settings of our programs: those of the person's own system must not lead the demo to its servers.
fn is_setting(name: &str) -> bool {
    const FAMILIES: [&str; 7] = ["AMQP_", "CHUNK_", "DB_", "FFLOW_", "GATEWAY_", "SCHEDULER_", "UPLOADER_"];
    let wanted = name.starts_with("UPLOADER_LOG_");
    !wanted && (name.starts_with("VIDEO_TTL") || FAMILIES.iter().any(|family| name.starts_with(family)))
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

/// One replica of the service.
pub(crate) struct Uploader {
    pub(crate) process: Process,
    /// Where it tells of its health.
    pub(crate) url: String,
    _port: PortLease,
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
    ) -> anyhow::Result<Uploader> {
        let standalone = standalone.to_string();
        self.serve_with(role, &[("SCHEDULER_CLEAR_UPLOAD_RESOURCES_ENABLED", &standalone)], workspace).await
    }

    /// Starts one replica with these variables besides.
    pub(crate) async fn serve_with(
        &self,
        role: &str,
        environment: &[(&str, &str)],
        workspace: &Workspace,
    ) -> anyhow::Result<Uploader> {
        let port = PortLease::take()?;
        let builder = self.describe(role, &port, workspace)?.envs(environment.iter().copied());
        let process = start(builder, &port, "/readyz").await?;
        Ok(Uploader { process, url: format!("http://{}", port.address()), _port: port })
    }

    /// One replica that is not started yet.
    pub(crate) fn describe(
        &self,
        role: &str,
        port: &PortLease,
        workspace: &Workspace,
    ) -> anyhow::Result<ProcessBuilder> {
        let builder = self.apply(program("uploader-v4", role, workspace)?);
        Ok(builder.arg("serve").env("UPLOADER_HTTP_ADDR", port.address()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_of_another_system_are_not_inherited() {
        for name in ["FFLOW_CACHE_URL", "UPLOADER_CONFIG", "DB_PASSWORD_FILE", "VIDEO_TTL", "GATEWAY_TOKEN"] {
            assert!(is_setting(name), "{name}");
        }
        for name in ["PATH", "CHUNK", "VIDEO", "RUST_LOG", "UPLOADER_LOG_FILTER"] {
            assert!(!is_setting(name), "{name}");
        }
    }
}
