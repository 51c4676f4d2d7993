//! Settings: `config/default.toml` (built in) < an optional file < the environment, checked as a whole at the start.
//!
//! `Config::load` reads nothing of the process by itself: the environment comes as a map in [`ConfigSources`]. Keys
//! are known from `default.toml` alone; each has its value there, its typed field in `sections`, its bound in
//! `bounds` and its environment variable in `env`. An error names the key, where the value came from and what was
//! expected. Secrets appear in no error, no `Debug` and no report.

mod bounds;
mod derive;
mod env;
mod layers;
mod origin;
mod report;
mod sections;
mod trust;
mod units;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

pub use origin::Origin;
pub use report::{Report, Setting};
pub use sections::*;
pub use trust::Trust;
pub use units::parse_size;

/// What the settings are made from, besides the built-in defaults.
#[derive(Debug, Clone, Default)]
pub struct ConfigSources {
    /// The TOML file; without it the one that `UPLOADER_CONFIG` in `env` names, if any.
    pub file: Option<PathBuf>,
    /// The environment. Variables that name no setting are ignored unless they begin with `UPLOADER_`.
    pub env: BTreeMap<String, String>,
}

impl ConfigSources {
    /// The environment of this process and, if given, a file. Variables that are not Unicode are read lossily.
    pub fn from_process(file: Option<PathBuf>) -> Self {
        let text = |value: std::ffi::OsString| value.to_string_lossy().into_owned();
        Self { file, env: std::env::vars_os().map(|(name, value)| (text(name), text(value))).collect() }
    }
}

/// Where each effective value came from, by dotted key.
#[derive(Debug, Clone, Default)]
pub struct Provenance {
    origins: BTreeMap<String, String>,
    notes: Vec<String>,
}

impl Provenance {
    /// The origin of one key's value: `built-in default`, `file <path>` or `environment variable <NAME>`.
    pub fn of(&self, key: &str) -> &str {
        self.origins.get(key).map_or("unknown", String::as_str)
    }

    /// What a person should know although it is no error, for the start-up log.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }
}

/// One thing that is wrong with the settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The dotted key, the variable or the file concerned.
    pub key: String,
    /// Where the refused value came from.
    pub origin: String,
    /// What was expected and, unless it is a secret, what was found.
    pub expected: String,
}

impl Problem {
    fn new(key: impl Into<String>, origin: impl Into<String>, expected: impl Into<String>) -> Self {
        Self { key: key.into(), origin: origin.into(), expected: expected.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (from {}): {}", self.key, self.origin, self.expected)
    }
}

/// The settings cannot be used; every problem that was found, at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// All problems, in the order in which they were found.
    pub problems: Vec<Problem>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the configuration cannot be used")?;
        self.problems.iter().try_for_each(|problem| write!(f, "\n  {problem}"))
    }
}

impl std::error::Error for ConfigError {}

impl Config {
    /// Puts the sources over the built-in defaults, in their order, and checks the result.
    ///
    /// # Errors
    /// [`ConfigError`] with all that is wrong: a file that cannot be read or parsed, an unknown key, a value of the
    /// wrong kind or out of its bounds, values that do not fit together.
    pub fn load(sources: ConfigSources) -> Result<(Config, Provenance), ConfigError> {
        let mut problems = Vec::new();
        let (mut figment, known) = layers::gather(&sources, &mut problems);
        let mut notes = Vec::new();
        if problems.is_empty() {
            figment = derive::complete(figment, &mut notes, &mut problems);
        }
        fail_on(&mut problems)?;
        let mut config = layers::extract(&figment).map_err(|problems| ConfigError { problems })?;
        let origins = known.iter().map(|key| (key.clone(), layers::origin(&figment, key))).collect();
        let provenance = Provenance { origins, notes };
        problems.extend(bounds::check(&config).into_iter().map(|broken| {
            Problem::new(
                broken.key,
                provenance.of(broken.key),
                format!("{}, found {}", broken.expected, broken.found),
            )
        }));
        problems.extend(
            config
                .trust()
                .map_err(|reason| Problem::new("tls.ca_file", provenance.of("tls.ca_file"), reason))
                .err(),
        );
        fail_on(&mut problems)?;
        Ok((config, provenance))
    }

    /// Reads `tls.ca_file`, if there is one, and hands it to every section that connects.
    fn trust(&mut self) -> Result<(), String> {
        let Some(path) = &self.tls.ca_file else { return Ok(()) };
        let trust = Trust::read(path)?;
        self.amqp.trust = trust.clone();
        self.database.trust = trust.clone();
        self.redis.trust = trust.clone();
        self.fflow.trust = trust.clone();
        self.holder.trust = trust.clone();
        self.traces.trust = trust;
        Ok(())
    }

    /// The effective settings with their origins, secrets redacted, for `uploader-v4 config`.
    pub fn report(&self, provenance: &Provenance) -> Report {
        report::report(self, provenance)
    }
}

fn fail_on(problems: &mut Vec<Problem>) -> Result<(), ConfigError> {
    if problems.is_empty() { Ok(()) } else { Err(ConfigError { problems: std::mem::take(problems) }) }
}

#[cfg(test)]
mod tests;
