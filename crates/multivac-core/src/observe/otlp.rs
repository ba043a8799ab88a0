//! Where spans go: to an OpenTelemetry collector, by the standard's variables
//! (<https://opentelemetry.io/docs/specs/otel/protocol/exporter/>), each of which is read and checked here.
//!
//! Spans wait in a queue of bounded length, and a thread of its own sends them. What finds no room there is dropped and counted,
//! so a collector that is slow, hangs or is away costs no request anything.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use hyper_rustls::HttpsConnectorBuilder;
use opentelemetry::KeyValue;
use opentelemetry_http::hyper::HyperClient;
use opentelemetry_otlp::tonic_types::metadata::MetadataMap;
use opentelemetry_otlp::tonic_types::transport::{Certificate, ClientTlsConfig, Identity};
use opentelemetry_otlp::{Compression, SpanExporter, WithExportConfig, WithHttpConfig, WithTonicConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{BatchConfig, BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracerProvider};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use tokio::runtime::{Builder, Runtime};
use uuid::Uuid;

use super::sending::Sending;
use super::spans::ByLinks;
use super::trace::Ids;

/// How many links a span may have, unless it is configured: as many as a batch has jobs.
const MAX_LINKS: u32 = 1_000;

type BoxedError = Box<dyn std::error::Error + Send + Sync>;

/// A variable that cannot be used as it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{variable}: {problem}")]
pub(super) struct BadVariable {
    variable: String,
    problem: String,
}

fn bad<T>(variable: &str, problem: impl Into<String>) -> Result<T, BadVariable> {
    Err(BadVariable { variable: variable.to_owned(), problem: problem.into() })
}

/// What the variables say; a secret of theirs is shown nowhere.
pub(super) struct Settings {
    endpoint: String,
    is_grpc: bool,
    headers: HashMap<String, String>,
    timeout: Duration,
    compression: Option<Compression>,
    ca: Option<Vec<u8>>,
    /// The certificate and the key.
    client: Option<(Vec<u8>, Vec<u8>)>,
    sampler: Sampler,
    batch: BatchConfig,
    max_links: Option<u32>,
    attributes: Vec<(String, String)>,
    /// What was asked for and is not done.
    pub(super) warnings: Vec<String>,
}

/// Reads variables.
struct Variables<'a>(&'a dyn Fn(&str) -> Option<String>);

impl Variables<'_> {
    /// An empty variable is an unset one.
    fn get(&self, name: &str) -> Option<String> {
        (self.0)(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
    }

    /// `OTEL_EXPORTER_OTLP_TRACES_…`, or else `OTEL_EXPORTER_OTLP_…`; and which it was.
    fn otlp(&self, name: &str) -> Option<(String, String)> {
        ["OTEL_EXPORTER_OTLP_TRACES_", "OTEL_EXPORTER_OTLP_"].into_iter().find_map(|prefix| {
            let variable = format!("{prefix}{name}");
            self.get(&variable).map(|value| (variable, value))
        })
    }

    fn number<T: std::str::FromStr + PartialOrd + From<u8>>(&self, name: &str) -> Result<Option<T>, BadVariable> {
        let Some(value) = self.get(name) else { return Ok(None) };
        match value.parse() {
            Ok(number) if number >= T::from(1) => Ok(Some(number)),
            _ => bad(name, format!("{value:?}: expected a whole number from 1 on")),
        }
    }

    fn file(&self, name: &str) -> Result<Option<Vec<u8>>, BadVariable> {
        let Some((variable, path)) = self.otlp(name) else { return Ok(None) };
        match std::fs::read(&path) {
            Ok(content) => Ok(Some(content)),
            Err(error) => bad(&variable, format!("{path} cannot be read: {error}")),
        }
    }
}

impl Settings {
    /// Those of this process; `None` where spans are to go nowhere.
    pub(super) fn from_environment(service: &str) -> Result<Option<Self>, BadVariable> {
        Self::read(
            &Variables(&|name| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())),
            service,
        )
    }

    fn read(variables: &Variables<'_>, service: &str) -> Result<Option<Self>, BadVariable> {
        if variables.get("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
            return Ok(None);
        }
        match variables.get("OTEL_TRACES_EXPORTER").as_deref() {
            None | Some("otlp") => {}
            Some("none") => return Ok(None),
            Some(other) => return bad("OTEL_TRACES_EXPORTER", format!("{other:?}: expected otlp or none")),
        }
        let Some((endpoint_variable, endpoint)) = variables.otlp("ENDPOINT") else { return Ok(None) };
        let is_grpc = match variables.otlp("PROTOCOL") {
            None => false,
            Some((_, protocol)) if protocol == "http/protobuf" => false,
            Some((_, protocol)) if protocol == "grpc" => true,
            Some((variable, other)) => return bad(&variable, format!("{other:?}: expected http/protobuf or grpc")),
        };
        let uri = endpoint.parse::<Uri>().ok().filter(|uri| uri.host().is_some());
        if !uri.is_some_and(|uri| matches!(uri.scheme_str(), Some("http" | "https"))) {
            let expected = "expected http://HOST:PORT, or https://…";
            return bad(&endpoint_variable, format!("{:?}: {expected}", without_password(&endpoint)));
        }
        let is_base = endpoint_variable == "OTEL_EXPORTER_OTLP_ENDPOINT" && !is_grpc;
        let endpoint = if is_base { format!("{}/v1/traces", endpoint.trim_end_matches('/')) } else { endpoint };
        let compression = match variables.otlp("COMPRESSION") {
            None => None,
            Some((_, compression)) if compression == "none" => None,
            Some((_, compression)) if compression == "gzip" => Some(Compression::Gzip),
            Some((variable, other)) => return bad(&variable, format!("{other:?}: expected gzip or none")),
        };
        let timeout = match variables.otlp("TIMEOUT") {
            None => Duration::from_secs(10),
            Some((variable, _)) => Duration::from_millis(variables.number::<u64>(&variable)?.unwrap_or(10_000)),
        };
        let client = match (variables.file("CLIENT_CERTIFICATE")?, variables.file("CLIENT_KEY")?) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            (Some(_), None) => return bad("OTEL_EXPORTER_OTLP_CLIENT_KEY", "is missing beside …_CLIENT_CERTIFICATE"),
            (None, Some(_)) => return bad("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", "is missing beside …_CLIENT_KEY"),
        };
        Ok(Some(Self {
            endpoint,
            is_grpc,
            headers: headers(variables)?,
            timeout,
            compression,
            ca: variables.file("CERTIFICATE")?,
            client,
            sampler: sampler(variables)?,
            batch: batch(variables)?,
            max_links: variables.number("OTEL_SPAN_LINK_COUNT_LIMIT")?,
            attributes: attributes(variables, service)?,
            warnings: warnings(variables),
        }))
    }
}

/// What may be shown of a URL that cannot be read.
fn without_password(url: &str) -> &str {
    url.rsplit_once('@').map_or(url, |(_, rest)| rest)
}

fn warnings(variables: &Variables<'_>) -> Vec<String> {
    let mut warnings = Vec::new();
    if let Some(propagators) = variables.get("OTEL_PROPAGATORS")
        && propagators != "tracecontext"
        && propagators != "tracecontext,baggage"
    {
        warnings.push(format!(
            "OTEL_PROPAGATORS is {propagators:?}; it is traceparent and tracestate that are read, whatever it is"
        ));
    }
    if let Some(disabled) = variables.get("OTEL_SDK_DISABLED")
        && !disabled.eq_ignore_ascii_case("false")
    {
        warnings.push(format!("OTEL_SDK_DISABLED is {disabled:?}, which is neither true nor false; spans are sent"));
    }
    warnings
}

/// `KEY=VALUE,…`, each value percent-encoded. The message does not quote a value, which may be a password.
fn pairs(text: &str) -> Result<Vec<(String, String)>, &'static str> {
    let read = |pair: &str| {
        let (key, value) = pair.split_once('=').ok_or("expected KEY=VALUE,…")?;
        let (key, value) = (key.trim(), decoded(value.trim()).ok_or("a value is not percent-encoded as it should be")?);
        if key.is_empty() { Err("a key is empty") } else { Ok((key.to_owned(), value)) }
    };
    text.split(',').map(str::trim).filter(|pair| !pair.is_empty()).map(read).collect()
}

fn decoded(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => {
                let digits = [bytes.next()?, bytes.next()?];
                let digits = std::str::from_utf8(&digits).ok().filter(|digits| !digits.starts_with('+'))?;
                u8::from_str_radix(digits, 16).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(decoded).ok()
}

/// Those of the file, and over them those of the variable.
fn headers(variables: &Variables<'_>) -> Result<HashMap<String, String>, BadVariable> {
    let file = variables.file("HEADERS_FILE")?.map(|content| {
        // One a line, too.
        let text = String::from_utf8_lossy(&content).replace(['\r', '\n'], ",");
        ("OTEL_EXPORTER_OTLP_HEADERS_FILE".to_owned(), text)
    });
    let mut headers = HashMap::new();
    for (variable, text) in file.into_iter().chain(variables.otlp("HEADERS")) {
        for (name, value) in pairs(&text).or_else(|problem| bad(&variable, problem))? {
            let one = HashMap::from([(name.to_ascii_lowercase(), value)]);
            if header_map(&one).is_err() {
                return bad(&variable, format!("the header {name:?} cannot be one, or has a value that cannot be one"));
            }
            headers.extend(one);
        }
    }
    Ok(headers)
}

fn header_map(headers: &HashMap<String, String>) -> Result<HeaderMap, BoxedError> {
    let pair = |(name, value): (&String, &String)| {
        Ok::<(HeaderName, HeaderValue), BoxedError>((name.parse()?, value.parse()?))
    };
    headers.iter().map(pair).collect()
}

fn sampler(variables: &Variables<'_>) -> Result<Sampler, BadVariable> {
    let name = variables.get("OTEL_TRACES_SAMPLER").unwrap_or_else(|| "parentbased_always_on".to_owned());
    let ratio = || match variables.get("OTEL_TRACES_SAMPLER_ARG") {
        None => Ok(1.0),
        Some(ratio) => match ratio.parse() {
            Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
            _ => bad("OTEL_TRACES_SAMPLER_ARG", format!("{ratio:?}: expected a share from 0 to 1, such as 0.01")),
        },
    };
    let (by_parent, name) = name.strip_prefix("parentbased_").map_or((false, &*name), |rest| (true, rest));
    let root = match name {
        "always_on" => Sampler::AlwaysOn,
        "always_off" => Sampler::AlwaysOff,
        "traceidratio" => Sampler::TraceIdRatioBased(ratio()?),
        _ => {
            let expected = "expected always_on, always_off, traceidratio, or one of these after parentbased_";
            return bad("OTEL_TRACES_SAMPLER", expected);
        }
    };
    Ok(if by_parent { Sampler::ParentBased(Box::new(root)) } else { root })
}

fn batch(variables: &Variables<'_>) -> Result<BatchConfig, BadVariable> {
    // It reads the variables by itself and passes over what it cannot read.
    let mut batch = BatchConfigBuilder::default();
    let queue: usize = variables.number("OTEL_BSP_MAX_QUEUE_SIZE")?.unwrap_or(2_048);
    let size: usize = variables.number("OTEL_BSP_MAX_EXPORT_BATCH_SIZE")?.unwrap_or(512.min(queue));
    if size > queue {
        return bad("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", format!("{size} is more than OTEL_BSP_MAX_QUEUE_SIZE, {queue}"));
    }
    batch = batch.with_max_queue_size(queue).with_max_export_batch_size(size);
    let delay = variables.number("OTEL_BSP_SCHEDULE_DELAY")?.unwrap_or(5_000);
    Ok(batch.with_scheduled_delay(Duration::from_millis(delay)).build())
}

/// The process, as the spans' resource describes it.
fn attributes(variables: &Variables<'_>, service: &str) -> Result<Vec<(String, String)>, BadVariable> {
    let mut all = vec![
        ("service.name".to_owned(), service.to_owned()),
        ("service.version".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
        ("service.instance.id".to_owned(), Uuid::new_v4().to_string()),
    ];
    if let Some(text) = variables.get("OTEL_RESOURCE_ATTRIBUTES") {
        all.extend(pairs(&text).or_else(|problem| bad("OTEL_RESOURCE_ATTRIBUTES", problem))?);
    }
    all.extend(variables.get("OTEL_SERVICE_NAME").map(|name| ("service.name".to_owned(), name)));
    Ok(all)
}

/// Makes and sends spans.
pub(super) struct Exported {
    pub(super) provider: SdkTracerProvider,
    /// What its connections live in; there until it is stopped.
    runtime: Option<Runtime>,
}

impl Exported {
    pub(super) fn start(settings: Settings) -> Result<Self, BoxedError> {
        // Its connections outlive the program's own runtime, which ends before what is left is sent.
        let runtime =
            Builder::new_multi_thread().worker_threads(1).thread_name("multivac-traces").enable_all().build()?;
        let exporter = {
            let _inside = runtime.enter();
            if settings.is_grpc { grpc(&settings)? } else { http(&settings)? }
        };
        let exporter = Sending::new(exporter, runtime.handle().clone(), settings.timeout, settings.endpoint.clone());
        let attributes = settings.attributes.into_iter().map(|(key, value)| KeyValue::new(key, value));
        let provider = SdkTracerProvider::builder()
            .with_sampler(ByLinks(settings.sampler))
            .with_id_generator(Ids::default())
            .with_max_links_per_span(settings.max_links.unwrap_or(MAX_LINKS))
            .with_resource(Resource::builder().with_attributes(attributes).build())
            .with_span_processor(BatchSpanProcessor::builder(exporter).with_batch_config(settings.batch).build())
            .build();
        Ok(Self { provider, runtime: Some(runtime) })
    }

    /// Sends what is left, for so long at most.
    pub(super) fn stop(&mut self, timeout: Duration) {
        // At the end of the process there is nobody left to tell.
        let _ = self.provider.shutdown_with_timeout(timeout);
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn http(settings: &Settings) -> Result<SpanExporter, BoxedError> {
    let connector = HttpsConnectorBuilder::new().with_tls_config(tls(settings)?).https_or_http().enable_http1().build();
    // It follows no redirection: the headers may be secret.
    let client = HyperClient::new(connector, settings.timeout, None);
    let mut exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(client)
        .with_endpoint(&settings.endpoint)
        .with_protocol(opentelemetry_otlp::Protocol::HttpBinary)
        .with_timeout(settings.timeout)
        .with_headers(settings.headers.clone());
    if let Some(compression) = settings.compression {
        exporter = exporter.with_compression(compression);
    }
    Ok(exporter.build()?)
}

/// For http/protobuf; gRPC's library makes its own.
fn tls(settings: &Settings) -> Result<ClientConfig, BoxedError> {
    let mut roots = RootCertStore::empty();
    match &settings.ca {
        Some(ca) => {
            for certificate in CertificateDer::pem_slice_iter(ca) {
                roots.add(certificate?)?;
            }
        }
        None => {
            let _ = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let tls = tls.with_root_certificates(roots);
    let Some((certificate, key)) = &settings.client else { return Ok(tls.with_no_client_auth()) };
    let certificates = CertificateDer::pem_slice_iter(certificate).collect::<Result<_, _>>()?;
    Ok(tls.with_client_auth_cert(certificates, PrivateKeyDer::from_pem_slice(key)?)?)
}

fn grpc(settings: &Settings) -> Result<SpanExporter, BoxedError> {
    let headers = header_map(&settings.headers)?;
    let mut exporter = SpanExporter::builder()
        .with_tonic()
        .with_endpoint(&settings.endpoint)
        .with_timeout(settings.timeout)
        .with_metadata(MetadataMap::from_headers(headers));
    if settings.endpoint.starts_with("https:") {
        let mut tls = ClientTlsConfig::new();
        tls = match &settings.ca {
            Some(ca) => tls.ca_certificate(Certificate::from_pem(ca)),
            None => tls.with_enabled_roots(),
        };
        if let Some((certificate, key)) = &settings.client {
            tls = tls.identity(Identity::from_pem(certificate, key));
        }
        exporter = exporter.with_tls_config(tls);
    }
    if let Some(compression) = settings.compression {
        exporter = exporter.with_compression(compression);
    }
    Ok(exporter.build()?)
}

#[cfg(test)]
#[path = "otlp_tests.rs"]
mod tests;
