//! What the variables may say, and what is said of those that may not.

use super::*;

const ENDPOINT: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318/");

fn read(variables: &[(&str, &str)]) -> Result<Option<Settings>, BadVariable> {
    let get = |name: &str| {
        let found = variables.iter().rev().find(|(variable, _)| *variable == name);
        found.map(|(_, value)| (*value).to_owned())
    };
    Settings::read(&Variables(&get), "multivac-api")
}

fn settings(more: &[(&str, &str)]) -> Settings {
    read(&[&[ENDPOINT], more].concat()).unwrap_or_else(|error| panic!("{error}")).expect("an endpoint")
}

fn refusal(more: &[(&str, &str)]) -> String {
    match read(&[&[ENDPOINT], more].concat()) {
        Err(error) => error.to_string(),
        Ok(_) => panic!("{more:?} is taken"),
    }
}

fn sampler_of(name: &str, argument: &str) -> String {
    format!("{:?}", settings(&[("OTEL_TRACES_SAMPLER", name), ("OTEL_TRACES_SAMPLER_ARG", argument)]).sampler)
}

#[test]
fn nothing_is_sent_without_an_endpoint_or_where_that_is_switched_off() {
    let off: [&[(&str, &str)]; 5] = [
        &[],
        &[("OTEL_EXPORTER_OTLP_ENDPOINT", " "), ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "")],
        &[ENDPOINT, ("OTEL_SDK_DISABLED", "True")],
        &[ENDPOINT, ("OTEL_TRACES_EXPORTER", "none")],
        &[("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")],
    ];
    for variables in off {
        assert!(read(variables).unwrap_or_else(|error| panic!("{error}")).is_none(), "{variables:?}");
    }
}

#[test]
fn the_endpoint_is_a_base_or_that_of_traces_and_grpc_has_no_path() {
    assert_eq!(settings(&[]).endpoint, "http://collector:4318/v1/traces");
    let of_traces = [("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://other/x")];
    assert_eq!(settings(&of_traces).endpoint, "https://other/x");
    let grpc = settings(&[("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")]);
    assert!(grpc.is_grpc && grpc.endpoint == ENDPOINT.1);
    let of_traces = [("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"), ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/protobuf")];
    assert!(!settings(&of_traces).is_grpc);
}

#[test]
fn an_empty_variable_is_an_unset_one() {
    let names = [
        "OTEL_SDK_DISABLED",
        "OTEL_TRACES_EXPORTER",
        "OTEL_EXPORTER_OTLP_PROTOCOL",
        "OTEL_EXPORTER_OTLP_HEADERS",
        "OTEL_EXPORTER_OTLP_HEADERS_FILE",
        "OTEL_EXPORTER_OTLP_TIMEOUT",
        "OTEL_EXPORTER_OTLP_COMPRESSION",
        "OTEL_EXPORTER_OTLP_CERTIFICATE",
        "OTEL_TRACES_SAMPLER",
        "OTEL_TRACES_SAMPLER_ARG",
        "OTEL_SERVICE_NAME",
        "OTEL_RESOURCE_ATTRIBUTES",
        "OTEL_BSP_MAX_QUEUE_SIZE",
        "OTEL_BSP_SCHEDULE_DELAY",
        "OTEL_PROPAGATORS",
    ];
    let settings = settings(&names.map(|name| (name, "")));
    assert!(settings.warnings.is_empty() && settings.headers.is_empty());
    assert_eq!(settings.attributes[0], ("service.name".to_owned(), "multivac-api".to_owned()));
}

#[test]
fn a_value_that_cannot_be_used_is_refused_by_its_name() {
    for (name, value, expected) in [
        ("OTEL_TRACES_EXPORTER", "zipkin", "expected otlp or none"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json", "expected http/protobuf or grpc"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318", "expected http://HOST:PORT"),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "ftp://collector", "expected http://HOST:PORT"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "zstd", "expected gzip or none"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s", "expected a whole number"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "secret", "expected KEY=VALUE"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "a b=secret", "cannot be one"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "a=secret%zz", "percent-encoded"),
        ("OTEL_EXPORTER_OTLP_HEADERS_FILE", "/no/such/file", "cannot be read"),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/no/such/file", "cannot be read"),
        ("OTEL_TRACES_SAMPLER", "jaeger_remote", "expected always_on"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "0", "expected a whole number"),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "4096", "more than OTEL_BSP_MAX_QUEUE_SIZE"),
        ("OTEL_BSP_SCHEDULE_DELAY", "soon", "expected a whole number"),
        ("OTEL_RESOURCE_ATTRIBUTES", "zone", "expected KEY=VALUE"),
    ] {
        let refusal = refusal(&[(name, value)]);
        assert!(refusal.starts_with(name) && refusal.contains(expected), "{refusal}");
        assert!(!refusal.contains("secret"), "{refusal}");
    }
    let share = [("OTEL_TRACES_SAMPLER", "traceidratio"), ("OTEL_TRACES_SAMPLER_ARG", "7")];
    assert!(refusal(&share).contains("expected a share from 0 to 1"));
    assert!(refusal(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "x://user:secret@host")]).find("secret").is_none());
}

#[test]
fn what_is_asked_for_and_not_done_is_warned_of() {
    assert_eq!(settings(&[("OTEL_PROPAGATORS", "b3")]).warnings.len(), 1);
    assert_eq!(settings(&[("OTEL_SDK_DISABLED", "perhaps")]).warnings.len(), 1);
    assert!(
        settings(&[("OTEL_PROPAGATORS", "tracecontext,baggage"), ("OTEL_SDK_DISABLED", "FALSE")]).warnings.is_empty()
    );
}

#[test]
fn a_sampler_is_chosen_by_its_name() {
    assert_eq!(sampler_of("", ""), "ParentBased(AlwaysOn)");
    assert_eq!(sampler_of("always_off", ""), "AlwaysOff");
    assert_eq!(sampler_of("traceidratio", "0.25"), "TraceIdRatioBased(0.25)");
    assert_eq!(sampler_of("parentbased_traceidratio", "0.01"), "ParentBased(TraceIdRatioBased(0.01))");
    assert_eq!(sampler_of("parentbased_always_off", ""), "ParentBased(AlwaysOff)");
}

#[test]
fn headers_come_out_of_a_file_and_over_them_out_of_the_variable() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("headers");
    std::fs::write(&file, "Authorization=Bearer%20a=b\nx-one=1,x-two=2\r\n").expect("written");
    let file = file.to_str().expect("UTF-8");
    let headers =
        settings(&[("OTEL_EXPORTER_OTLP_HEADERS_FILE", file), ("OTEL_EXPORTER_OTLP_HEADERS", "x-two=3")]).headers;
    assert_eq!(headers["authorization"], "Bearer a=b");
    assert_eq!((&*headers["x-one"], &*headers["x-two"], headers.len()), ("1", "3", 3));
}

#[test]
fn the_service_is_named_by_the_variables_and_else_by_the_program() {
    let name = |variables: &[(&str, &str)]| {
        let attributes = settings(variables).attributes;
        attributes.into_iter().rfind(|(key, _)| key == "service.name").map(|(_, name)| name).unwrap_or_default()
    };
    assert_eq!(name(&[]), "multivac-api");
    let resource = ("OTEL_RESOURCE_ATTRIBUTES", "service.name=from%20resource,zone=a");
    assert_eq!(name(&[resource]), "from resource");
    assert_eq!(name(&[resource, ("OTEL_SERVICE_NAME", "from name")]), "from name");
}
