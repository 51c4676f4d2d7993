//! Values that follow from others: complete addresses with credentials, the default allow-list, the host's name.

use std::path::Path;

use figment::Figment;
use figment::value::Value;
use serde::de::DeserializeOwned;
use url::Url;

use super::layers::{self, Layer};
use super::{Origin, Problem, Trust};

/// Parameters of a PostgreSQL address that the driver understands; JDBC has many more.
const DATABASE_PARAMETERS: [&str; 8] =
    ["sslmode", "sslrootcert", "sslcert", "sslkey", "application_name", "options", "host", "port"];

/// How far PostgreSQL is encrypted and checked; without one of them: `prefer`, which checks nobody.
const DATABASE_MODES: [&str; 6] = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"];

const DATABASE_FORM: &str = "expected [jdbc:]postgresql://[user[:password]@]host[:port]/database";
const AMQP_FORM: &str = "expected amqp://[user:password@]host[:port][/vhost], or amqps://";
const REDIS_FORM: &str = "expected redis://[[user]:password@]host[:port][/database], or rediss://";

const WEB_FORM: &str = "expected http://host[:port][/path]";

/// Lays the derived values on top of the merged ones.
pub(super) fn complete(figment: Figment, notes: &mut Vec<String>, problems: &mut Vec<Problem>) -> Figment {
    let derived = [
        broker(&figment),
        database(&figment, notes),
        cache(&figment),
        allow_list(&figment),
        Ok(replica_name(&figment)),
    ];
    let mut complete = figment;
    for result in derived {
        match result {
            Ok(layer) => complete = layer.into_iter().fold(complete, Figment::merge),
            Err(found) => problems.extend(found),
        }
    }
    complete
}

fn value<T: DeserializeOwned>(figment: &Figment, key: &str) -> Result<T, Vec<Problem>> {
    figment.extract_inner(key).map_err(|error| layers::explain(figment, error))
}

fn refused(figment: &Figment, key: &str, expected: &str) -> Vec<Problem> {
    vec![Problem::new(key, layers::origin(figment, key), expected)]
}

/// The origins of several keys, each named once.
fn origins(figment: &Figment, keys: &[&str]) -> String {
    let mut names: Vec<String> = Vec::new();
    for key in keys {
        let origin = layers::origin(figment, key);
        if !names.contains(&origin) {
            names.push(origin);
        }
    }
    names.join(", ")
}

/// Writes out the default vhost, which `amqp://host` and `amqp://host/` both mean.
fn broker(figment: &Figment) -> Result<Option<Layer>, Vec<Problem>> {
    let key = "amqp.url";
    let wrong = || refused(figment, key, AMQP_FORM);
    let mut url = Url::parse(&value::<String>(figment, key)?).map_err(|_| wrong())?;
    let host = url.host_str().is_some_and(|host| !host.is_empty());
    if !matches!(url.scheme(), "amqp" | "amqps") || !host {
        return Err(wrong());
    }
    if matches!(url.path(), "" | "/") {
        url.set_path("/%2f");
    }
    Ok(Some(Layer::of(key, url.to_string(), layers::origin(figment, key))))
}

/// Merges the credentials into the database's address and leaves out what only JDBC understands.
fn database(figment: &Figment, notes: &mut Vec<String>) -> Result<Option<Layer>, Vec<Problem>> {
    let wrong = || refused(figment, "database.url", DATABASE_FORM);
    let text = value::<String>(figment, "database.url")?;
    let mut url = Url::parse(text.strip_prefix("jdbc:").unwrap_or(&text)).map_err(|_| wrong())?;
    let host = url.host_str().is_some_and(|host| !host.is_empty() && !host.contains(','));
    let named = url.path().len() > 1;
    if !matches!(url.scheme(), "postgres" | "postgresql") || !host || !named {
        return Err(wrong());
    }
    let in_query = take_parameters(&mut url, notes);
    encryption(&url).map_err(|expected| refused(figment, "database.url", &expected))?;
    let credentials = credentials(figment, &url, in_query)?;
    url.set_scheme("postgresql").map_err(|()| wrong())?;
    if let Some((user, password)) = credentials.values {
        let password = password.filter(|text| !text.is_empty()).map(|text| shield(&text));
        url.set_username(&shield(&user)).map_err(|()| wrong())?;
        url.set_password(password.as_deref()).map_err(|()| wrong())?;
    }
    Ok(Some(Layer::of("database.url", url.to_string(), origins(figment, &credentials.keys))))
}

/// User and password as they are, not percent-encoded; `None` where the address already holds both.
struct Credentials {
    values: Option<(String, Option<String>)>,
    keys: Vec<&'static str>,
}

/// The address wins over the settings; the default password is for the default user only.
fn credentials(figment: &Figment, url: &Url, in_query: InQuery) -> Result<Credentials, Vec<Problem>> {
    let (user_key, password_key) = ("database.username", "database.password");
    let encoded_user = (!url.username().is_empty()).then(|| url.username());
    if encoded_user.is_some() && url.password().is_some() {
        return Ok(Credentials { values: None, keys: vec!["database.url"] });
    }
    let mut keys = vec!["database.url"];
    let user_in_url = in_query.user.or_else(|| encoded_user.map(decode));
    let password_set = layers::origin(figment, password_key) != layers::BUILT_IN;
    let default_user = user_in_url.is_none();
    let user = match user_in_url {
        Some(user) => user,
        None => {
            keys.push(user_key);
            value(figment, user_key)?
        }
    };
    let password = match in_query.password.or_else(|| url.password().map(decode)) {
        Some(password) => Some(password),
        None if default_user || password_set => {
            keys.push(password_key);
            Some(value(figment, password_key)?)
        }
        None => None,
    };
    Ok(Credentials { values: Some((user, password)), keys })
}

/// Undoes percent-encoding. A form parser does the work, so a plus sign must be shielded from it.
fn decode(text: &str) -> String {
    let shielded = text.replace('+', "%2B").replace('&', "%26").replace('=', "%3D");
    url::form_urlencoded::parse(shielded.as_bytes()).map(|(name, _)| name.into_owned()).collect()
}

/// The address encodes what it must but takes a percent sign for an escape; here it is none.
fn shield(text: &str) -> String {
    text.replace('%', "%25")
}

/// A misspelt mode or a missing authority is no reason to try for ever.
fn encryption(url: &Url) -> Result<(), String> {
    for (name, text) in url.query_pairs() {
        match &*name {
            "sslmode" if !DATABASE_MODES.contains(&&*text) => {
                return Err(format!("expected sslmode to be one of {}", DATABASE_MODES.join(", ")));
            }
            "sslrootcert" => {
                drop(Trust::read(Path::new(&*text)).map_err(|reason| format!("sslrootcert: {reason}"))?)
            }
            _ => {}
        }
    }
    Ok(())
}

#[derive(Default)]
struct InQuery {
    user: Option<String>,
    password: Option<String>,
}

/// Takes the credentials out of the query, translates what has another name for the driver and drops the rest.
fn take_parameters(url: &mut Url, notes: &mut Vec<String>) -> InQuery {
    let mut found = InQuery::default();
    let mut kept: Vec<(String, String)> = Vec::new();
    let mut strict = false;
    for (name, text) in url.query_pairs().into_owned() {
        match name.as_str() {
            "user" => found.user = Some(text),
            "password" => found.password = Some(text),
            "ApplicationName" => kept.push(("application_name".into(), text)),
            "ssl" if text != "false" => strict = true,
            known if DATABASE_PARAMETERS.contains(&known) => kept.push((name, text)),
            _ => notes
                .push(format!("the parameter {name} of database.url has no meaning here and is left out")),
        }
    }
    // What it means to JDBC, too, but a mode that is written out wins.
    if strict && !kept.iter().any(|(name, _)| name == "sslmode") {
        kept.push(("sslmode".into(), "verify-full".into()));
    }
    url.set_query(None);
    if !kept.is_empty() {
        url.query_pairs_mut().extend_pairs(kept);
    }
    found
}

/// The route cache's address as given, or made of host, port and database number.
fn cache(figment: &Figment) -> Result<Option<Layer>, Vec<Problem>> {
    let given = value::<String>(figment, "redis.url")?;
    let (text, keys) = if given.is_empty() {
        let host: String = value(figment, "redis.host")?;
        let port: u16 = value(figment, "redis.port")?;
        let db: u32 = value(figment, "redis.db")?;
        if port == 0 {
            return Err(refused(figment, "redis.port", "expected a port from 1 to 65535"));
        }
        let host = if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host };
        (format!("redis://{host}:{port}/{db}"), vec!["redis.host", "redis.port", "redis.db"])
    } else {
        (given, vec!["redis.url"])
    };
    let url = Url::parse(&text).ok().filter(|url| matches!(url.scheme(), "redis" | "rediss"));
    let url = url.filter(|url| url.host_str().is_some_and(|host| !host.is_empty()));
    let url = url.ok_or_else(|| match keys.as_slice() {
        [only] => refused(figment, only, REDIS_FORM),
        _ => refused(figment, "redis.host", "expected a host name or an IP address"),
    })?;
    Ok(Some(Layer::of("redis.url", url.to_string(), origins(figment, &keys))))
}

/// Without a list of its own a flow may live where flows are created. A bad address is reported with its own key.
fn allow_list(figment: &Figment) -> Result<Option<Layer>, Vec<Problem>> {
    let allowed: String = value(figment, "fflow.allowed")?;
    let base: String = value(figment, "fflow.base_url")?;
    let origin = Url::parse(&base).ok().as_ref().and_then(Origin::of);
    let origin = origin.ok_or_else(|| refused(figment, "fflow.base_url", WEB_FORM))?;
    let source = format!("fflow.base_url, {}", layers::origin(figment, "fflow.base_url"));
    let unset = allowed.trim().is_empty();
    Ok(unset.then(|| Layer::of("fflow.allowed", Value::from(origin.to_string()), source)))
}

/// A replica without a name is called like its host.
fn replica_name(figment: &Figment) -> Option<Layer> {
    let name: String = figment.extract_inner("replica.name").ok()?;
    let host = || {
        let text = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let text = text.trim();
        if text.is_empty() { "uploader".to_owned() } else { text.to_owned() }
    };
    name.trim().is_empty().then(|| Layer::of("replica.name", host(), "the host's name"))
}
