//! Values with units, as serde modules: durations, sizes, addresses, secrets.
//!
//! Each is read from a string (sizes from an integer as well) and written back in the form that a person would type.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserializer, Serializer, de};
use url::Url;

use super::origin::Origin;
use super::sections::{LogFormat, SpoolLimit};

/// Declares a serde module that goes through a pair of functions: text to value and value to text.
macro_rules! text_form {
    ($module:ident, $type:ty, $expected:expr, $parse:expr, $format:expr) => {
        pub(super) mod $module {
            use super::*;

            pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<$type, D::Error> {
                deserializer.deserialize_any(Text { expected: $expected, parse: $parse })
            }

            pub(crate) fn serialize<S: Serializer>(value: &$type, serializer: S) -> Result<S::Ok, S::Error> {
                let format: fn(&$type) -> String = $format;
                serializer.serialize_str(&format(value))
            }
        }
    };
}

text_form!(duration, Duration, DURATION, parse_duration, |value| format_duration(*value));
text_form!(durations, Vec<Duration>, DURATIONS, parse_durations, |value| join(
    value.iter().copied(),
    format_duration
));
text_form!(size, u64, SIZE, parse_size, |value| format_size(*value));
text_form!(secret, SecretString, "a string", |text| Some(SecretString::from(text)), redact);
text_form!(web_address, Url, WEB_ADDRESS, parse_web_address, Url::to_string);
text_form!(optional_web_address, Option<Url>, WEB_ADDRESS, parse_optional_web_address, |value| {
    value.as_ref().map(Url::to_string).unwrap_or_default()
});
text_form!(
    optional_path,
    Option<PathBuf>,
    "a path",
    |text| Some(Some(PathBuf::from(text)).filter(|_| !text.is_empty())),
    |value| { value.as_ref().map(|path| path.display().to_string()).unwrap_or_default() }
);
text_form!(origins, Vec<Origin>, ORIGINS, parse_origins, |value| join(value.iter(), Origin::to_string));
text_form!(spool_limit, SpoolLimit, SPOOL_LIMIT, parse_spool_limit, |value| format_spool_limit(*value));
text_form!(listen_address, SocketAddr, LISTEN, |text| text.parse().ok(), SocketAddr::to_string);
text_form!(log_format, LogFormat, "\"text\" or \"json\"", parse_log_format, |value| format_log(*value));

const DURATION: &str = "a duration with its unit such as \"250ms\", \"45s\" or \"10m\"";
const DURATIONS: &str = "durations with their units separated by commas, such as \"30s,2m\"";
const SIZE: &str = "a size such as \"64KiB\", \"10MiB\" or a whole number of bytes";
const SPOOL_LIMIT: &str = "a share of the volume such as \"80%\" or a size such as \"100GiB\"";
const LISTEN: &str = "an IP address with its port such as \"127.0.0.1:8080\"";
const WEB_ADDRESS: &str = "an http or https address without credentials, query or fragment";
const ORIGINS: &str = "origins such as \"http://fflow:4050\", separated by commas";

/// Reads a string, or an integer as its digits, and hands it to a parser that knows no serde.
struct Text<T> {
    expected: &'static str,
    parse: fn(&str) -> Option<T>,
}

impl<T> de::Visitor<'_> for Text<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        (self.parse)(text.trim()).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<T, E> {
        let parsed = (self.parse)(&number.to_string());
        parsed.ok_or_else(|| E::invalid_value(de::Unexpected::Unsigned(number), &self))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<T, E> {
        let parsed = (self.parse)(&number.to_string());
        parsed.ok_or_else(|| E::invalid_value(de::Unexpected::Signed(number), &self))
    }
}

fn parse_duration(text: &str) -> Option<Duration> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    humantime::parse_duration(text).ok()
}

/// Writes a duration in the form that `parse_duration` reads, without spaces: `1h30m`.
pub(super) fn format_duration(value: Duration) -> String {
    humantime::format_duration(value).to_string().replace(' ', "")
}

fn parse_durations(text: &str) -> Option<Vec<Duration>> {
    text.split(',').map(|part| parse_duration(part.trim())).collect()
}

const UNITS: [(&str, u64); 9] = [
    ("tib", 1 << 40),
    ("gib", 1 << 30),
    ("mib", 1 << 20),
    ("kib", 1 << 10),
    ("tb", 1_000_000_000_000),
    ("gb", 1_000_000_000),
    ("mb", 1_000_000),
    ("kb", 1_000),
    ("b", 1),
];

/// Reads a size such as `64KiB`, `10MB` or a number of bytes; `None` for anything else.
pub fn parse_size(text: &str) -> Option<u64> {
    let text = text.to_ascii_lowercase();
    let text = text.strip_suffix("/s").unwrap_or(&text);
    let (digits, factor) = UNITS
        .iter()
        .find_map(|(unit, factor)| text.strip_suffix(unit).map(|digits| (digits, *factor)))
        .unwrap_or((text, 1));
    let digits = digits.trim_end();
    let number = digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse::<u64>().ok())?;
    number?.checked_mul(factor)
}

/// Writes a size with the largest binary unit that divides it.
pub(super) fn format_size(bytes: u64) -> String {
    let names = ["TiB", "GiB", "MiB", "KiB"];
    let whole = names.iter().zip(UNITS).find(|(_, (_, factor))| bytes > 0 && bytes.is_multiple_of(*factor));
    whole.map_or_else(|| format!("{bytes}B"), |(name, (_, factor))| format!("{}{name}", bytes / factor))
}

fn parse_spool_limit(text: &str) -> Option<SpoolLimit> {
    let Some(percent) = text.strip_suffix('%') else {
        return parse_size(text).map(SpoolLimit::Bytes);
    };
    let percent: f64 = percent.trim().parse().ok()?;
    (percent > 0.0 && percent <= 100.0).then_some(SpoolLimit::VolumeShare(percent / 100.0))
}

/// Writes a limit in the form that `parse_spool_limit` reads.
pub(super) fn format_spool_limit(limit: SpoolLimit) -> String {
    match limit {
        SpoolLimit::Bytes(bytes) => format_size(bytes),
        SpoolLimit::VolumeShare(share) => format!("{}%", share * 100.0),
    }
}

fn parse_web_address(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    let plain = url.username().is_empty() && url.password().is_none();
    let bare = url.query().is_none() && url.fragment().is_none();
    (plain && bare && Origin::of(&url).is_some()).then_some(url)
}

fn parse_optional_web_address(text: &str) -> Option<Option<Url>> {
    if text.is_empty() { Some(None) } else { parse_web_address(text).map(Some) }
}

fn parse_origins(text: &str) -> Option<Vec<Origin>> {
    text.split(',').map(|part| part.parse().ok()).collect()
}

fn parse_log_format(text: &str) -> Option<LogFormat> {
    match text {
        "text" => Some(LogFormat::Text),
        "json" => Some(LogFormat::Json),
        _ => None,
    }
}

fn format_log(format: LogFormat) -> String {
    match format {
        LogFormat::Text => "text".into(),
        LogFormat::Json => "json".into(),
    }
}

/// An address without its password and its query, which may hold one; anything else becomes `***` as a whole.
fn redact(secret: &SecretString) -> String {
    let Ok(mut url) = Url::parse(secret.expose_secret()) else {
        return "***".into();
    };
    let query = url.query().map(|_| "***");
    url.set_query(query);
    url.set_fragment(None);
    if url.password().is_some() && url.set_password(Some("***")).is_err() {
        return "***".into();
    }
    url.to_string()
}

fn join<T>(values: impl Iterator<Item = T>, format: impl Fn(T) -> String) -> String {
    values.map(format).collect::<Vec<_>>().join(",")
}
