//! The effective settings with their origins, for people and for machines.

use std::fmt;

use serde::Serialize;
use serde_json::Value;

use super::{Config, Provenance};

/// One effective setting.
#[derive(Debug, Clone, Serialize)]
pub struct Setting {
    /// Dotted key.
    pub key: String,
    /// Its value; passwords are `***`.
    pub value: Value,
    /// Where the value came from.
    pub origin: String,
}

/// All effective settings, by key. Its `Display` has one line for each: `key = value  # origin`.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The settings in alphabetical order.
    pub settings: Vec<Setting>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = |setting: &Setting| format!("{} = {}", setting.key, setting.value);
        let width = self.settings.iter().map(|setting| line(setting).len()).max().unwrap_or(0).min(60);
        self.settings
            .iter()
            .try_for_each(|setting| writeln!(f, "{:width$}  # from {}", line(setting), setting.origin))
    }
}

/// Collects what the typed settings say of themselves; their secrets redact themselves.
pub(super) fn report(config: &Config, provenance: &Provenance) -> Report {
    let mut settings = Vec::new();
    let sections = serde_json::to_value(config).unwrap_or_default();
    for (section, values) in sections.as_object().into_iter().flatten() {
        for (name, value) in values.as_object().into_iter().flatten() {
            let key = format!("{section}.{name}");
            let origin = provenance.of(&key).to_owned();
            settings.push(Setting { key, value: value.clone(), origin });
        }
    }
    Report { settings }
}
