//! Lays the sources over each other and remembers where each value came from.

use std::collections::BTreeMap;
use std::path::Path;

use figment::error::Kind;
use figment::providers::{Format, Toml};
use figment::value::{Dict, Map, Value};
use figment::{Error, Figment, Metadata, Profile, Provider};

use super::{Config, ConfigSources, Problem, env};

/// The built-in defaults; their keys are all the keys there are.
pub(super) const DEFAULTS: &str = include_str!("../../config/default.toml");

/// The origin of a value that nobody set.
pub(super) const BUILT_IN: &str = "built-in default";

/// Keys whose values are never shown.
pub(super) const SECRETS: [&str; 4] = ["amqp.url", "database.url", "database.password", "redis.url"];

/// Values from one place. One variable of the environment is one place, so that errors can name it.
pub(super) struct Layer {
    pub(super) origin: String,
    pub(super) values: Dict,
}

impl Layer {
    /// One value under a dotted key.
    pub(super) fn of(key: &str, value: impl Into<Value>, origin: impl Into<String>) -> Self {
        let nested = figment::util::nest(key, value.into());
        Self { origin: origin.into(), values: nested.into_dict().unwrap_or_default() }
    }
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.origin.clone())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, Error> {
        Ok(Profile::Default.collect(self.values.clone()))
    }
}

/// Merges defaults, file and environment; returns the result and the known keys.
pub(super) fn gather(sources: &ConfigSources, problems: &mut Vec<Problem>) -> (Figment, Vec<String>) {
    let defaults = match Toml::from_str::<Dict>(DEFAULTS) {
        Ok(values) => values,
        Err(error) => {
            problems.push(Problem::new("config/default.toml", BUILT_IN, error.message()));
            Dict::new()
        }
    };
    let known = flatten(&defaults);
    let mut figment = Figment::new().merge(Layer { origin: BUILT_IN.into(), values: defaults });
    let named = sources.env.get(env::CONFIG_VARIABLE).filter(|path| !path.is_empty());
    let file = sources.file.as_deref().or(named.map(Path::new));
    if let Some(layer) = file.and_then(|path| file_layer(path, &known, problems)) {
        figment = figment.merge(layer);
    }
    for layer in env::layers(&sources.env, &known, problems) {
        figment = figment.merge(layer);
    }
    (figment, known.into_keys().collect())
}

fn file_layer(path: &Path, known: &BTreeMap<String, Value>, problems: &mut Vec<Problem>) -> Option<Layer> {
    let origin = format!("file {}", path.display());
    let read = std::fs::read_to_string(path).map_err(|error| format!("cannot be read: {error}"));
    let parsed = read.and_then(|text| {
        Toml::from_str::<Dict>(&text).map_err(|error| {
            let line = error.span().map_or(1, |span| 1 + text[..span.start].matches('\n').count());
            format!("line {line}: {}", error.message())
        })
    });
    match parsed {
        Ok(values) => {
            refuse_unknown(&values, known, &origin, problems);
            Some(Layer { origin, values })
        }
        Err(reason) => {
            problems.push(Problem::new(path.display().to_string(), origin, reason));
            None
        }
    }
}

fn refuse_unknown(values: &Dict, known: &BTreeMap<String, Value>, origin: &str, problems: &mut Vec<Problem>) {
    for key in flatten(values).into_keys().filter(|key| !known.contains_key(key)) {
        let hint = env::nearest(&key, known.keys().map(String::as_str));
        let hint = hint.map(|near| format!("; did you mean {near}?")).unwrap_or_default();
        problems.push(Problem::new(key, origin, format!("there is no such setting{hint}")));
    }
}

/// All values that are no tables, by dotted key. An empty table counts as a value: it is no setting either.
fn flatten(values: &Dict) -> BTreeMap<String, Value> {
    let mut flat = BTreeMap::new();
    for (name, value) in values {
        match value {
            Value::Dict(_, inner) if !inner.is_empty() => {
                flat.extend(flatten(inner).into_iter().map(|(key, value)| (format!("{name}.{key}"), value)));
            }
            _ => {
                flat.insert(name.clone(), value.clone());
            }
        }
    }
    flat
}

/// Where the value of a key came from.
pub(super) fn origin(figment: &Figment, key: &str) -> String {
    figment.find_metadata(key).map_or_else(|| "nowhere".into(), |metadata| metadata.name.to_string())
}

/// Makes the typed settings.
pub(super) fn extract(figment: &Figment) -> Result<Config, Vec<Problem>> {
    figment.extract().map_err(|error| explain(figment, error))
}

/// Says in a person's words what was expected of a value, and what was found unless it is a secret.
pub(super) fn explain(figment: &Figment, error: Error) -> Vec<Problem> {
    let problem = |error: Error| {
        let key = error.path.join(".");
        let expected = match &error.kind {
            Kind::InvalidType(found, wanted) | Kind::InvalidValue(found, wanted) => {
                let found = found.to_string();
                // An address where none with credentials is allowed may hold some all the same.
                let secret = SECRETS.contains(&key.as_str()) || found.contains('@');
                let found = if secret { "something else".into() } else { found };
                format!("expected {}, found {found}", plain_words(wanted))
            }
            other => other.to_string(),
        };
        Problem::new(key.clone(), origin(figment, &key), expected)
    };
    error.into_iter().map(problem).collect()
}

fn plain_words(wanted: &str) -> &str {
    match wanted {
        "u16" => "a whole number from 0 to 65535",
        "u32" => "a whole number from 0 to 4294967295",
        "u64" | "usize" => "a whole number, 0 or above",
        "a boolean" => "true or false",
        other => other,
    }
}
