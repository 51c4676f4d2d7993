//! A private nginx, and the balancer in front of the fflow replicas.

pub mod balancer;

use std::path::Path;
use std::time::Duration;

use anyhow::Context;

use super::ready;
use crate::http;
use crate::ports::PortLease;
use crate::process::{Process, Signal};
use crate::tools::Tool;
use crate::workspace::Workspace;

const START: Duration = Duration::from_secs(20);
const TALK: Duration = Duration::from_secs(2);

/// An nginx on one loopback port.
#[derive(Debug)]
pub struct Nginx {
    process: Process,
    port: PortLease,
}

impl Nginx {
    /// Starts nginx with `servers`, the content of its `http` block, which must listen on the leased port.
    /// Relative paths, also of Unix sockets, are in a folder of its own.
    ///
    /// # Errors
    /// When nginx is not installed, refuses the configuration, or does not answer a request on the port in time.
    pub async fn start(workspace: &Workspace, port: PortLease, servers: &str) -> anyhow::Result<Self> {
        let folder = workspace.folder(&format!("nginx-{}", port.number()))?;
        let configuration = folder.join("nginx.conf");
        std::fs::write(&configuration, whole(servers))
            .with_context(|| format!("cannot write {}", configuration.display()))?;
        let process = launch(&folder, workspace.log(&format!("nginx-{}", port.number())).as_path())?;
        let url = format!("http://{}/healthz", port.address());
        ready(&process, START, async || http::get(&url, TALK).await.map(drop)).await?;
        Ok(Self { process, port })
    }

    /// `http://127.0.0.1:<port>`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.port.address())
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// Stops nginx at once.
    ///
    /// # Errors
    /// When it does not end, even killed.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        self.process.stop(Signal::SIGTERM, TALK).await
    }

    /// The server's process.
    #[must_use]
    pub fn process(&self) -> &Process {
        &self.process
    }
}

fn launch(folder: &Path, log: &Path) -> anyhow::Result<Process> {
    Process::command(Tool::Nginx.program("nginx")?)
        .args(["-e", "stderr", "-c", "nginx.conf", "-p"])
        .arg(folder)
        .current_dir(folder)
        .log(log)
        .start()
}

/// One process without workers: a killed master would leave its workers behind.
fn whole(servers: &str) -> String {
    format!(
        "daemon off;\n\
         master_process off;\n\
         pid nginx.pid;\n\
         error_log stderr warn;\n\
         events {{ worker_connections 4096; }}\n\
         http {{\n\
         access_log off;\n\
         client_body_temp_path body;\n\
         proxy_temp_path proxy;\n\
         fastcgi_temp_path fastcgi;\n\
         uwsgi_temp_path uwsgi;\n\
         scgi_temp_path scgi;\n\
         {servers}\n\
         }}\n"
    )
}
