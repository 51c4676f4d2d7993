//! Log lines on standard error, text for people or one JSON object per line; and spans for a collector, if there is one.

mod traces;

use std::io::{self, IsTerminal};

use opentelemetry_http::HttpClient;
use opentelemetry_otlp::ExporterBuildError;
use thiserror::Error;
use tracing::{Level, Subscriber};
use tracing_subscriber::filter::{ParseError, Targets};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{EnvFilter, Layer, Registry, registry};

pub use self::traces::Traces;
use crate::config::{Config, LogConfig, LogFormat};
use crate::trace;

/// Logging or tracing cannot begin.
#[derive(Debug, Error)]
pub enum TelemetryError {
    /// The directives of `log.filter` cannot be read.
    #[error("log.filter cannot be read: {0}")]
    Filter(#[from] ParseError),
    /// Another subscriber is installed in this process.
    #[error("logging has begun before: {0}")]
    Installed(#[from] TryInitError),
    /// The collector's address cannot be used.
    #[error("traces.url cannot be used: {0}")]
    Exporter(#[from] ExporterBuildError),
}

/// Begins to log as the settings say, for the whole process. Called once.
///
/// # Errors
/// [`TelemetryError`]; the settings' own check has refused a bad filter before.
pub fn init(config: &LogConfig) -> Result<(), TelemetryError> {
    lines(config, io::stderr, io::stderr().is_terminal())?.try_init()?;
    Ok(())
}

/// The same, and spans go to the collector that `traces.url` names, through `client`.
///
/// # Errors
/// [`TelemetryError`].
pub fn init_traced(
    config: &Config,
    address: &str,
    client: impl HttpClient + 'static,
) -> Result<Traces, TelemetryError> {
    let (traces, tracer) = Traces::begin(&config.traces, address, &config.replica.name, client)?;
    // Whatever the filter of the log: a trace without its spans would be none.
    let own = Targets::new().with_target(env!("CARGO_CRATE_NAME"), Level::INFO);
    let spans = tracing_opentelemetry::layer().with_tracer(tracer).with_filter(own);
    let filter = EnvFilter::try_new(&config.log.filter)?;
    let colours = io::stderr().is_terminal();
    registry().with(format(&config.log, io::stderr, colours).with_filter(filter)).with(spans).try_init()?;
    trace::begin();
    Ok(traces)
}

/// What a place to write to must be.
trait Writer: for<'a> MakeWriter<'a> + Send + Sync + 'static {}

impl<W: for<'a> MakeWriter<'a> + Send + Sync + 'static> Writer for W {}

fn lines(
    config: &LogConfig,
    writer: impl Writer,
    colours: bool,
) -> Result<impl Subscriber + Send + Sync, ParseError> {
    let filter = EnvFilter::try_new(&config.filter)?;
    Ok(registry().with(format(config, writer, colours)).with(filter))
}

/// In JSON the event's fields stand at the top, those of its spans under `spans`, so that ids can be searched for.
fn format(config: &LogConfig, writer: impl Writer, colours: bool) -> Box<dyn Layer<Registry> + Send + Sync> {
    let lines = tracing_subscriber::fmt::layer().with_writer(writer);
    match config.format {
        LogFormat::Text => lines.with_ansi(colours).boxed(),
        LogFormat::Json => {
            lines.json().flatten_event(true).with_current_span(false).with_span_list(true).boxed()
        }
    }
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
        tracing::subscriber::with_default(
            lines(&config(LogFormat::Json), page.writer(), false).unwrap(),
            speak,
        );
        let line: serde_json::Value = serde_json::from_str(page.text().trim()).unwrap();
        assert_eq!((line["message"].as_str(), line["chunk.start"].as_i64()), (Some("chunk stored"), Some(7)));
        assert_eq!(line["spans"][0]["session.id"], "s1");
    }

    #[test]
    fn text_lines_hold_level_message_and_ids() {
        let page = Page::default();
        tracing::subscriber::with_default(
            lines(&config(LogFormat::Text), page.writer(), false).unwrap(),
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
        assert!(lines(&config, io::sink, false).is_err());
    }
}
