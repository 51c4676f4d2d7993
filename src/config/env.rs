//! The names that settings have in the environment.
//!
//! Settings that earlier uploaders had keep their names, milliseconds included. Every other one is
//! `UPLOADER_<SECTION>_<KEY>`, some with a shorter name beside it.

use std::collections::BTreeMap;
use std::io::Read;

use figment::value::Value;

use super::Problem;
use super::layers::{Layer, SECRETS};

/// Names the configuration file; no setting itself.
pub(super) const CONFIG_VARIABLE: &str = "UPLOADER_CONFIG";

const PREFIX: &str = "UPLOADER_";

/// The longest file that holds one secret.
const MOST_SECRET_BYTES: u64 = 64 << 10;

/// Names from the time before this service; the ones that end in `true` take whole milliseconds.
const INHERITED: [(&str, &str, bool); 17] = [
    ("AMQP_CONNECTION_STRING", "amqp.url", false),
    ("AMQP_CONNECTION_POLLING_TIME", "amqp.reconnect_max", true),
    ("CHUNK_UPLOAD_AMQP_QUEUE", "amqp.upload_queue", false),
    ("CHUNK_REPLY_AMQP_QUEUE", "amqp.reply_queue", false),
    ("CHUNK_REPLY_AMQP_EXCHANGE", "amqp.exchange", false),
    ("CHUNK_UPLOAD_AMQP_EXCHANGE", "amqp.exchange", false),
    ("DB_CONNECTION_STRING", "database.url", false),
    ("DB_USERNAME", "database.username", false),
    ("DB_PASSWORD", "database.password", false),
    ("FFLOW_CACHE_HOST", "redis.host", false),
    ("FFLOW_CACHE_PORT", "redis.port", false),
    ("FFLOW_CACHE_DB", "redis.db", false),
    ("FFLOW_CACHE_URL", "redis.url", false),
    ("FFLOW_BASE_URL", "fflow.base_url", false),
    ("SCHEDULER_CLEAR_UPLOAD_RESOURCES_ENABLED", "janitor.enabled", false),
    ("SCHEDULER_CLEAR_UPLOAD_RESOURCES_SLEEP_TIME", "janitor.interval", true),
    ("VIDEO_TTL", "janitor.video_ttl", true),
];

/// Shorter names beside the regular ones.
const SHORT: [(&str, &str); 17] = [
    ("UPLOADER_PREFETCH", "amqp.prefetch"),
    ("UPLOADER_INFLIGHT_BYTES", "amqp.inflight_bytes"),
    ("UPLOADER_ROUTE_TTL", "redis.route_ttl"),
    ("UPLOADER_MAX_CHUNK_BYTES", "chunk.max_bytes"),
    ("UPLOADER_REORDER_WAIT", "chunk.reorder_wait"),
    ("UPLOADER_MAX_FEEDS", "feed.max_feeds"),
    ("UPLOADER_PUSH_BLOCK_BYTES", "feed.push_block"),
    ("UPLOADER_PUSH_LINGER", "feed.push_linger"),
    ("UPLOADER_PUSH_RATE", "feed.push_rate"),
    ("UPLOADER_REPLAYS", "feed.replays"),
    ("UPLOADER_MAX_STRIKES", "feed.max_strikes"),
    ("UPLOADER_STRIKE_SPAN", "feed.strike_span"),
    ("UPLOADER_FLOW_IDLE", "feed.flow_idle"),
    ("UPLOADER_FINISH_GRACE", "feed.finish_grace"),
    ("UPLOADER_LEASE", "replica.lease"),
    ("UPLOADER_SHUTDOWN_DEADLINE", "replica.shutdown_deadline"),
    ("UPLOADER_TOMBSTONE_TTL", "janitor.tombstone_ttl"),
];

/// One variable and the setting that it means.
struct Binding {
    variable: String,
    key: String,
    millis: bool,
}

/// All names, in the order in which they are read.
fn bindings(known: &BTreeMap<String, Value>) -> Vec<Binding> {
    let inherited = INHERITED.iter().map(|(variable, key, millis)| (variable.to_string(), *key, *millis));
    let short = SHORT.iter().map(|(variable, key)| (variable.to_string(), *key, false));
    let regular = known
        .keys()
        .filter(|key| INHERITED.iter().all(|(_, inherited, _)| inherited != key))
        .map(|key| (format!("{PREFIX}{}", key.replace('.', "_").to_uppercase()), key.as_str(), false));
    let all = inherited.chain(regular).chain(short);
    all.map(|(variable, key, millis)| Binding { variable, key: key.to_owned(), millis }).collect()
}

/// One layer for each variable that is set.
pub(super) fn layers(
    env: &BTreeMap<String, String>,
    known: &BTreeMap<String, Value>,
    problems: &mut Vec<Problem>,
) -> Vec<Layer> {
    let bindings = bindings(known);
    refuse_unknown(env, &bindings, problems);
    let mut seen: BTreeMap<&str, (&str, String)> = BTreeMap::new();
    let mut layers = Vec::new();
    for binding in &bindings {
        let Some((text, origin)) = lookup(env, binding, problems) else { continue };
        if let Some((other, earlier)) = seen.get(binding.key.as_str()) {
            if *earlier != text {
                let expected =
                    format!("means the same setting as {other} but has another value; set only one");
                problems.push(Problem::new(&binding.variable, origin, expected));
            }
            continue;
        }
        match typed(binding, &text, known.get(&binding.key)) {
            Ok(value) => layers.push(Layer::of(&binding.key, value, origin)),
            Err(expected) => problems.push(Problem::new(&binding.key, origin, expected)),
        }
        seen.insert(&binding.key, (&binding.variable, text));
    }
    layers
}

/// The variable's text and origin, its own or, for a secret, that of the file which `<NAME>_FILE` names.
fn lookup(
    env: &BTreeMap<String, String>,
    binding: &Binding,
    problems: &mut Vec<Problem>,
) -> Option<(String, String)> {
    let own = env.get(&binding.variable);
    let file_variable = format!("{}_FILE", binding.variable);
    let path = env.get(&file_variable).filter(|_| SECRETS.contains(&binding.key.as_str()));
    let origin = format!("environment variable {}", binding.variable);
    let Some(path) = path else { return own.map(|text| (text.clone(), origin)) };
    let file_origin = format!("environment variable {file_variable}, file {path}");
    if own.is_some() {
        let expected = format!("{} is set as well; set only one", binding.variable);
        problems.push(Problem::new(&binding.key, file_origin, expected));
        return None;
    }
    match read_secret(path) {
        Ok(text) => Some((text.trim_end_matches(['\r', '\n']).to_owned(), file_origin)),
        Err(error) => {
            problems.push(Problem::new(
                &binding.key,
                file_origin,
                format!("the file cannot be read: {error}"),
            ));
            None
        }
    }
}

/// A secret is short; a path that leads to something endless is a mistake.
fn read_secret(path: &str) -> std::io::Result<String> {
    let mut text = String::new();
    std::fs::File::open(path)?.take(MOST_SECRET_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MOST_SECRET_BYTES {
        return Err(std::io::Error::other(format!("it is longer than {MOST_SECRET_BYTES} bytes")));
    }
    Ok(text)
}

/// Gives a text the type that the setting's default has; a text that does not fit stays one, and is refused later.
fn typed(binding: &Binding, text: &str, default: Option<&Value>) -> Result<Value, String> {
    if binding.millis {
        let millis =
            text.trim().parse::<u64>().map_err(|_| "expected a whole number of milliseconds".to_owned());
        return Ok(Value::from(format!("{}ms", millis?)));
    }
    let trimmed = text.trim().to_ascii_lowercase();
    let value = match default {
        Some(Value::Bool(..)) => trimmed.parse::<bool>().ok().map(Value::from),
        Some(Value::Num(..)) => trimmed.parse::<i64>().ok().map(Value::from),
        _ => None,
    };
    Ok(value.unwrap_or_else(|| Value::from(text)))
}

/// A misspelt name must not leave a setting at its default in silence.
fn refuse_unknown(env: &BTreeMap<String, String>, bindings: &[Binding], problems: &mut Vec<Problem>) {
    let known = |name: &str| bindings.iter().any(|binding| binding.variable == name);
    for name in env.keys().filter(|name| name.starts_with(PREFIX) && *name != CONFIG_VARIABLE && !known(name))
    {
        let regular =
            |binding: &&Binding| *name == format!("{PREFIX}{}", binding.key.replace('.', "_").to_uppercase());
        let meant = bindings.iter().find(regular).map(|binding| binding.variable.as_str());
        let near = meant.or_else(|| nearest(name, bindings.iter().map(|binding| binding.variable.as_str())));
        let hint = near.map(|near| format!("; did you mean {near}?")).unwrap_or_default();
        let origin = format!("environment variable {name}");
        problems.push(Problem::new(name, origin, format!("there is no such setting{hint}")));
    }
}

/// The candidate that differs least from a name, if it differs by less than a third of it.
pub(super) fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let ranked = candidates.map(|candidate| (distance(name, candidate), candidate)).min();
    ranked.filter(|(distance, _)| distance * 3 < name.len()).map(|(_, candidate)| candidate)
}

/// Letters to insert, remove or replace to make one text of the other.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in other.iter().enumerate() {
            let replaced = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[other.len()]
}
