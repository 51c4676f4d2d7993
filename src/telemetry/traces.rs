//! Spans of chunks and feeds, sampled, gathered and handed to an exporter.

use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider;
use opentelemetry_http::HttpClient;
use opentelemetry_otlp::{ExporterBuildError, Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{Sampler, SdkTracer, SdkTracerProvider};

use crate::config::TracesConfig;

/// How long the last spans may take to leave.
const FLUSH: Duration = Duration::from_secs(1);

/// What sends spans on its way, until the process ends.
pub struct Traces {
    provider: SdkTracerProvider,
}

impl Traces {
    /// Makes ready to export through `client` as `replica`. A trace that began elsewhere is recorded if it is there.
    pub(super) fn begin(
        config: &TracesConfig,
        address: &str,
        replica: &str,
        client: impl HttpClient + 'static,
    ) -> Result<(Self, SdkTracer), ExporterBuildError> {
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(client)
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(format!("{}/v1/traces", address.trim_end_matches('/')))
            .build()?;
        let share = Sampler::TraceIdRatioBased(f64::from(config.percent) / 100.0);
        let resource = Resource::builder_empty()
            .with_service_name("uploader-v4")
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .with_attribute(KeyValue::new("service.instance.id", replica.to_owned()));
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_sampler(Sampler::ParentBased(Box::new(share)))
            .with_resource(resource.build())
            .build();
        let tracer = provider.tracer("uploader-v4");
        Ok((Self { provider }, tracer))
    }

    /// Sends what is gathered, for at most a second. What does not arrive is lost, as it is without a collector.
    pub async fn end(self) {
        // It blocks its thread, and the requests are made on this one.
        let flushed = actix_rt::task::spawn_blocking(move || self.provider.shutdown_with_timeout(FLUSH));
        let _ = tokio::time::timeout(2 * FLUSH, flushed).await;
    }
}
