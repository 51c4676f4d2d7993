//! Finds the programs that a stack is made of, and installs what is missing where it may.
//!
//! Nothing here starts a server or touches one that is already on the machine.

pub mod apt;

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

/// A program, or a family of programs, that the stack needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tool {
    /// `initdb` and `postgres`, version 13 or newer.
    Postgres,
    /// `redis-server`.
    Redis,
    /// The real server script of RabbitMQ, not the wrapper that changes the user.
    RabbitMq,
    /// `nginx`.
    Nginx,
    /// `ffmpeg` and `ffprobe`.
    Ffmpeg,
    /// `promtool`, which checks the alert rules.
    Prometheus,
}

/// Every tool, in the order in which `devstack doctor` tells of them.
pub const ALL: [Tool; 6] =
    [Tool::Postgres, Tool::Redis, Tool::RabbitMq, Tool::Nginx, Tool::Ffmpeg, Tool::Prometheus];

/// What the three servers of a test run need.
pub const SERVERS: [Tool; 3] = [Tool::Postgres, Tool::Redis, Tool::RabbitMq];

impl Tool {
    /// The name for people.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Tool::Postgres => "PostgreSQL",
            Tool::Redis => "Redis",
            Tool::RabbitMq => "RabbitMQ",
            Tool::Nginx => "nginx",
            Tool::Ffmpeg => "ffmpeg",
            Tool::Prometheus => "Prometheus",
        }
    }

    /// The Debian package that holds the tool.
    #[must_use]
    pub fn package(self) -> &'static str {
        match self {
            Tool::Postgres => "postgresql",
            Tool::Redis => "redis-server",
            Tool::RabbitMq => "rabbitmq-server",
            Tool::Nginx => "nginx-light",
            Tool::Ffmpeg => "ffmpeg",
            Tool::Prometheus => "prometheus",
        }
    }

    /// The programs that must all be there.
    #[must_use]
    pub fn programs(self) -> &'static [&'static str] {
        match self {
            Tool::Postgres => &["initdb", "postgres"],
            Tool::Redis => &["redis-server"],
            Tool::RabbitMq => &["rabbitmq-server", "epmd"],
            Tool::Nginx => &["nginx"],
            Tool::Ffmpeg => &["ffmpeg", "ffprobe"],
            Tool::Prometheus => &["promtool"],
        }
    }

    /// True when every program of the tool is found.
    #[must_use]
    pub fn is_installed(self) -> bool {
        self.programs().iter().all(|program| self.locate(program).is_some())
    }

    /// The path of one of the tool's programs, looked for in the tool's own folders first and then in `PATH`.
    ///
    /// # Errors
    /// When it is not found; the text says what to install.
    pub fn program(self, program: &str) -> anyhow::Result<PathBuf> {
        self.locate(program).with_context(|| format!("{program} is not installed: {}", advice(&[self])))
    }

    fn locate(self, program: &str) -> Option<PathBuf> {
        self.own_folders()
            .into_iter()
            .map(|folder| folder.join(program))
            .find(|path| is_program(path))
            .or_else(|| match (self, program) {
                // What PATH holds under this name is the wrapper, which insists on the system's own user.
                (Tool::RabbitMq, "rabbitmq-server") => None,
                _ => in_path(program),
            })
    }

    fn own_folders(self) -> Vec<PathBuf> {
        match self {
            Tool::Postgres => versioned_folders(Path::new("/usr/lib/postgresql")),
            Tool::RabbitMq => {
                vec![PathBuf::from("/usr/lib/rabbitmq/bin"), PathBuf::from("/opt/rabbitmq/sbin")]
            }
            Tool::Redis | Tool::Nginx | Tool::Ffmpeg | Tool::Prometheus => Vec::new(),
        }
    }
}

/// Makes sure that every one of `tools` is installed: as root on Debian or Ubuntu the missing ones are
/// installed with apt-get, without starting any service. Blocks until that is done.
///
/// # Errors
/// When a tool is missing and cannot be installed here; the text says exactly what to install.
pub fn ensure(tools: &[Tool]) -> anyhow::Result<()> {
    let missing = missing(tools);
    if missing.is_empty() {
        return Ok(());
    }
    if !apt::is_usable() {
        bail!("{}", advice(&missing));
    }
    let packages: Vec<&str> = missing.iter().map(|tool| tool.package()).collect();
    apt::install(&packages).with_context(|| advice(&missing))?;
    let still: Vec<Tool> = self::missing(&missing);
    if still.is_empty() {
        return Ok(());
    }
    bail!("installed {}, and still: {}", packages.join(" "), advice(&still))
}

/// Those of `tools` that are not installed.
#[must_use]
pub fn missing(tools: &[Tool]) -> Vec<Tool> {
    tools.iter().copied().filter(|tool| !tool.is_installed()).collect()
}

/// What a person has to do to get `tools`.
#[must_use]
pub fn advice(tools: &[Tool]) -> String {
    let names: Vec<&str> = tools.iter().map(|tool| tool.name()).collect();
    let programs: Vec<&str> = tools.iter().flat_map(|tool| tool.programs()).copied().collect();
    let packages: Vec<&str> = tools.iter().map(|tool| tool.package()).collect();
    format!(
        "missing {} (programs {}); install by hand, on Debian and Ubuntu: sudo apt-get install --no-install-recommends {}",
        names.join(", "),
        programs.join(", "),
        packages.join(" ")
    )
}

/// The first executable file of that name in `PATH`, or in the folders of system programs, which the `PATH`
/// of an ordinary user often lacks.
#[must_use]
pub fn in_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path)
        .chain(system)
        .map(|folder| folder.join(program))
        .find(|path| is_program(path))
}

fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// `<root>/<version>/bin` for every version, the newest first.
fn versioned_folders(root: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(root) else { return Vec::new() };
    let mut versions: Vec<u32> =
        entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    versions.sort_unstable_by(|a, b| b.cmp(a));
    versions.into_iter().map(|version| root.join(version.to_string()).join("bin")).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn the_advice_names_programs_and_packages() {
        let advice = advice(&[Tool::Redis, Tool::Ffmpeg]);
        assert!(advice.contains("redis-server, ffmpeg, ffprobe"), "{advice}");
        assert!(advice.ends_with("redis-server ffmpeg"), "{advice}");
    }

    #[test]
    fn the_newest_version_is_looked_at_first() {
        let root = tempfile::tempdir().unwrap();
        for version in ["9", "15", "13", "not-a-version"] {
            std::fs::create_dir(root.path().join(version)).unwrap();
        }
        let found = versioned_folders(root.path());
        let expected: Vec<PathBuf> =
            ["15", "13", "9"].iter().map(|version| root.path().join(version).join("bin")).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_program_is_found_in_the_path_and_a_folder_is_not_one() {
        assert!(in_path("sh").is_some());
        assert!(!is_program(Path::new("/")));
        assert!(in_path("no-such-program-anywhere").is_none());
    }
}
