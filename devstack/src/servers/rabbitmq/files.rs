//! The folder and settings that keep a private RabbitMQ apart from every other one on the machine.

use std::path::{Path, PathBuf};

use anyhow::Context;

use super::{Identity, Ports};
use crate::workspace::Workspace;

/// The broker's folder and log.
#[derive(Debug)]
pub(crate) struct Files {
    folder: PathBuf,
    logs: PathBuf,
}

impl Files {
    /// Writes the configuration for `ports` into a folder of its own, so that a second attempt on other ports
    /// does not inherit a half-made database.
    pub(crate) fn write(
        workspace: &Workspace,
        ports: &Ports,
        identity: Option<&Identity>,
    ) -> anyhow::Result<Self> {
        let folder = workspace.folder(&format!("rabbitmq-{}", ports.amqp.number()))?;
        let files = Self { folder, logs: workspace.path().to_owned() };
        files.put("rabbitmq.conf", &(configuration(ports) + &encryption(ports, identity)))?;
        // An empty file is refused: it has to hold one Erlang term.
        files.put("advanced.config", "[].\n")?;
        files.put("enabled_plugins", "[rabbitmq_management].\n")?;
        Ok(files)
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn log(&self, name: &str) -> PathBuf {
        self.logs.join(format!("{name}.log"))
    }

    fn put(&self, name: &str, text: &str) -> anyhow::Result<()> {
        let path = self.folder.join(name);
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    }

    /// Every path and port that RabbitMQ would otherwise take from the system's own installation.
    pub(crate) fn environment(&self, ports: &Ports) -> Vec<(&'static str, String)> {
        let at = |name: &str| self.folder.join(name).display().to_string();
        vec![
            ("HOME", self.folder.display().to_string()),
            ("ERL_EPMD_ADDRESS", "127.0.0.1".to_owned()),
            ("ERL_EPMD_PORT", ports.epmd.number().to_string()),
            ("RABBITMQ_NODENAME", format!("devstack{}@localhost", ports.amqp.number())),
            ("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1".to_owned()),
            ("RABBITMQ_NODE_PORT", ports.amqp.number().to_string()),
            ("RABBITMQ_DIST_PORT", ports.distribution.number().to_string()),
            ("RABBITMQ_CONF_ENV_FILE", "/dev/null".to_owned()),
            ("RABBITMQ_CONFIG_FILE", at("rabbitmq.conf")),
            ("RABBITMQ_ADVANCED_CONFIG_FILE", at("advanced.config")),
            ("RABBITMQ_ENABLED_PLUGINS_FILE", at("enabled_plugins")),
            ("RABBITMQ_MNESIA_BASE", at("mnesia")),
            ("RABBITMQ_LOG_BASE", at("log")),
            ("RABBITMQ_LOGS", "-".to_owned()),
            ("RABBITMQ_PID_FILE", at("pid")),
            ("RABBITMQ_GENERATED_CONFIG_DIR", at("generated")),
            ("RABBITMQ_SCHEMA_DIR", at("schema")),
            ("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "-kernel inet_dist_use_interface {127,0,0,1}".to_owned()),
            // Makes the script become the Erlang machine instead of watching over one: what is signalled, and
            // what dies with its owner, is then the broker itself.
            ("RUNNING_UNDER_SYSTEMD", "true".to_owned()),
        ]
    }
}

fn configuration(ports: &Ports) -> String {
    format!(
        "management.tcp.ip = 127.0.0.1\n\
         management.tcp.port = {}\n\
         management.rates_mode = none\n\
         collect_statistics_interval = 250\n\
         log.console.level = info\n",
        ports.management.number()
    )
}

/// Nothing for a broker without an identity. Clients are not asked for certificates.
fn encryption(ports: &Ports, identity: Option<&Identity>) -> String {
    let (Some(port), Some(identity)) = (&ports.amqps, identity) else { return String::new() };
    format!(
        "listeners.ssl.1 = {}\n\
         ssl_options.cacertfile = {}\n\
         ssl_options.certfile = {}\n\
         ssl_options.keyfile = {}\n\
         ssl_options.verify = verify_none\n\
         ssl_options.fail_if_no_peer_cert = false\n",
        port.address(),
        identity.authority.display(),
        identity.certificate.display(),
        identity.key.display(),
    )
}
