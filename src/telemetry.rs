//! Log lines on standard error: text for people or one JSON object per line.

use std::io::{self, IsTerminal};

use thiserror::Error;
use tracing::Subscriber;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

use crate::config::{LogConfig, LogFormat};

/// Logging cannot begin.
#[derive(Debug, Error)]
pub enum TelemetryError {
    /// The directives of `log.filter` cannot be read.
    #[error("log.filter cannot be read: {0}")]
    Filter(#[from] ParseError),
    /// Another subscriber is installed in this process.
    #[error("logging has begun before: {0}")]
    Installed(#[from] TryInitError),
}

/// Begins to log as the settings say, for the whole process. Called once.
///
/// # Errors
/// [`TelemetryError`]; the settings' own check has refused a bad filter before.
pub fn init(config: &LogConfig) -> Result<(), TelemetryError> {
    match config.format {
        LogFormat::Text => text(config, io::stderr, io::stderr().is_terminal())?.try_init()?,
        LogFormat::Json => json(config, io::stderr)?.try_init()?,
    }
    Ok(())
}

/// What a place to write to must be.
trait Writer: for<'a> MakeWriter<'a> + Send + Sync + 'static {}

impl<W: for<'a> MakeWriter<'a> + Send + Sync + 'static> Writer for W {}

fn text(
    config: &LogConfig,
    writer: impl Writer,
    colours: bool,
) -> Result<impl Subscriber + Send + Sync, ParseError> {
    let filter = EnvFilter::try_new(&config.filter)?;
    Ok(tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer).with_ansi(colours).finish())
}

/// The event's fields stand at the top, those of its spans under `spans`, so that ids can be searched for.
fn json(config: &LogConfig, writer: impl Writer) -> Result<impl Subscriber + Send + Sync, ParseError> {
    let filter = EnvFilter::try_new(&config.filter)?;
    let lines =
        tracing_subscriber::fmt().json().flatten_event(true).with_current_span(false).with_span_list(true);
    Ok(lines.with_env_filter(filter).with_writer(writer).finish())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl Write for Page {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Page {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }

        fn writer(&self) -> impl Writer + use<> {
            let page = self.clone();
            move || page.clone()
        }
    }

    fn config(format: LogFormat) -> LogConfig {
        LogConfig { format, filter: "info".into() }
    }

    fn speak() {
        let _span = tracing::info_span!("chunk", session.id = "s1").entered();
        tracing::info!(chunk.start = 7, "chunk stored");
        tracing::debug!("unheard");
    }

    #[test]
    fn json_lines_carry_the_fields_of_event_and_span() {
        let page = Page::default();
        tracing::subscriber::with_default(json(&config(LogFormat::Json), page.writer()).unwrap(), speak);
        let line: serde_json::Value = serde_json::from_str(page.text().trim()).unwrap();
        assert_eq!((line["message"].as_str(), line["chunk.start"].as_i64()), (Some("chunk stored"), Some(7)));
        assert_eq!(line["spans"][0]["session.id"], "s1");
    }

    #[test]
    fn text_lines_hold_level_message_and_ids() {
        let page = Page::default();
        tracing::subscriber::with_default(
            text(&config(LogFormat::Text), page.writer(), false).unwrap(),
            speak,
        );
        let line = page.text();
        assert!(
            line.contains("INFO") && line.contains("session.id=\"s1\"") && line.contains("chunk stored"),
            "{line}"
        );
        assert!(!line.contains("unheard"));
    }

    #[test]
    fn a_filter_that_cannot_be_read_is_refused() {
        let config = LogConfig { format: LogFormat::Text, filter: "a=b=c".into() };
        assert!(text(&config, io::sink, false).is_err());
    }
}
