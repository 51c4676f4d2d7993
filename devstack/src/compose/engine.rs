//! The compose project under test, spoken to through the `docker` command.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use devstack::{PortLease, Workspace};
use tokio::process::Command;

use crate::progress::Step;

/// From an empty cache every dependency is compiled.
const BUILD: Duration = Duration::from_secs(3600);
const UP: Duration = Duration::from_secs(300);
const DOWN: Duration = Duration::from_secs(180);
/// A call that waits for nothing.
const CALL: Duration = Duration::from_secs(60);
/// Names what belongs to a project.
const LABEL: &str = "com.docker.compose.project";

/// One project with ports, secrets and a name of its own, beside whatever else the engine runs.
pub(super) struct Engine {
    project: String,
    root: PathBuf,
    settings: Vec<(&'static str, String)>,
    gateway: PortLease,
    _holder: PortLease,
}

impl Engine {
    /// Asks for the engine and makes the project's secrets.
    pub(super) async fn find(workspace: &Workspace) -> anyhow::Result<Self> {
        let (gateway, holder) = (PortLease::take()?, PortLease::take()?);
        let secrets = workspace.folder("secrets")?;
        let root = std::env::current_dir().context("no current folder")?;
        let settings = vec![
            ("SECRETS_DIR", secrets.display().to_string()),
            ("GATEWAY_PORT", gateway.number().to_string()),
            ("HOLDER_PORT", holder.number().to_string()),
        ];
        let project = format!("uploader-test-{}", std::process::id());
        let engine = Self { project, root, settings, gateway, _holder: holder };
        let version = ["version", "--format", "{{.Server.Version}}"];
        let answers = engine.docker(version, CALL).await.context(
            "no Docker engine answers: start one, or have COMPOSE_IMAGES_CMD name a command that provides one",
        )?;
        let compose = engine.docker(["compose", "version", "--short"], CALL).await;
        let compose = compose.context("docker has no compose plugin: install docker-compose v2")?;
        eprintln!("engine {answers}, compose {compose}");
        engine.call("docker/secrets.sh", std::iter::empty::<&str>(), CALL).await.context("making secrets")?;
        Ok(engine)
    }

    /// gateway as this machine reaches it.
    pub(super) fn gateway_url(&self) -> String {
        format!("http://{}", self.gateway.address())
    }

    /// Builds both images.
    pub(super) async fn build(&self) -> anyhow::Result<()> {
        let step = Step::spin("building the images");
        self.compose(["build", "uploader", "fflow-1"], BUILD).await?;
        let bytes: u64 =
            self.docker(["image", "inspect", "--format", "{{.Size}}", "uploader-v4"], CALL).await?.parse()?;
        step.done(&format!("uploader-v4 has {:.0} MB", bytes as f64 / 1e6));
        Ok(())
    }

    /// Starts everything and waits until all is well.
    pub(super) async fn up(&self) -> anyhow::Result<()> {
        let step = Step::spin("bringing it up");
        self.start_all(&[]).await?;
        let running = self.compose(["ps", "--quiet"], CALL).await?.lines().count();
        step.done(&format!("{running} containers, all well"));
        Ok(())
    }

    /// Starts what does not run, without touching what does, and waits until all is well.
    pub(super) async fn start_all(&self, options: &[&str]) -> anyhow::Result<()> {
        let call = ["up", "--detach", "--no-build", "--no-recreate", "--wait"];
        self.compose(call.iter().chain(options), UP).await.map(drop)
    }

    /// The containers of a service, in the order of their numbers.
    pub(super) async fn containers(&self, service: &str) -> anyhow::Result<Vec<String>> {
        let ids = self.compose(["ps", "--quiet", service], CALL).await?;
        Ok(ids.lines().map(str::to_owned).collect())
    }

    /// What the containers said.
    pub(super) async fn logs(&self) -> anyhow::Result<String> {
        self.compose(["logs", "--no-color", "--timestamps"], CALL).await
    }

    /// What one container has said since a time, each line after its time.
    pub(super) async fn said(&self, container: &str, since: &str) -> anyhow::Result<String> {
        let both = r#"exec docker logs --timestamps --since "$1" "$2" 2>&1"#;
        self.call("sh", ["-c", both, "sh", since, container], CALL).await
    }

    /// Removes every container, volume and network of the project, and makes sure of it.
    pub(super) async fn take_down(&self) -> anyhow::Result<()> {
        let step = Step::spin("taking it down");
        self.compose(["down", "--volumes", "--remove-orphans"], DOWN).await?;
        let label = format!("label={LABEL}={}", self.project);
        for list in [&["ps", "--all"][..], &["volume", "ls"], &["network", "ls"]] {
            let left = self.docker(list.iter().chain(&["--quiet", "--filter", &label]), CALL).await?;
            if !left.is_empty() {
                bail!("docker {} still has {}", list.join(" "), left.replace('\n', ", "));
            }
        }
        step.done("no container, volume or network is left");
        Ok(())
    }

    /// `docker compose` for this project; what it wrote to standard output.
    pub(super) async fn compose<A: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = A>,
        deadline: Duration,
    ) -> anyhow::Result<String> {
        let file = self.root.join("docker/compose.yml");
        let file = file.to_string_lossy();
        let project = ["compose", "--project-name", &self.project, "--file", &file].map(str::to_owned);
        let arguments =
            arguments.into_iter().map(|argument| argument.as_ref().to_string_lossy().into_owned());
        self.docker(project.into_iter().chain(arguments), deadline).await
    }

    /// `docker`; what it wrote to standard output.
    pub(super) async fn docker<A: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = A>,
        deadline: Duration,
    ) -> anyhow::Result<String> {
        self.call("docker", arguments, deadline).await
    }

    /// The name that a network of the compose file has in the engine.
    pub(super) fn network(&self, name: &str) -> String {
        format!("{}_{name}", self.project)
    }

    async fn call<A: AsRef<OsStr>>(
        &self,
        program: impl AsRef<Path>,
        arguments: impl IntoIterator<Item = A>,
        deadline: Duration,
    ) -> anyhow::Result<String> {
        let mut command = Command::new(program.as_ref());
        command.args(arguments).envs(self.settings.iter().map(|(name, value)| (name, value)));
        command.current_dir(&self.root).stdin(Stdio::null()).kill_on_drop(true);
        let what = format!("{:?}", command.as_std());
        let what = what.rsplit("compose.yml\" ").next().unwrap_or_default().replace('"', "");
        let Ok(output) = tokio::time::timeout(deadline, command.output()).await else {
            bail!("{what} is not done after {deadline:?}");
        };
        let output = output.with_context(|| format!("{what} cannot be run"))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            let last: Vec<_> = said.lines().rev().take(25).collect();
            let last: Vec<_> = last.into_iter().rev().collect();
            bail!("{what} fails ({})\n{}", output.status, last.join("\n"));
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }
}
