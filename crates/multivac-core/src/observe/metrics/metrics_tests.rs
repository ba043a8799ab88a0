use super::*;

#[test]
fn openmetrics_is_given_to_who_asks_for_it() {
    for accept in [
        "application/openmetrics-text",
        "application/openmetrics-text; version=1.0.0; charset=utf-8",
        // As Prometheus 2 asks.
        "application/openmetrics-text;version=1.0.0;q=0.75,application/openmetrics-text;version=0.0.1;q=0.5,\
         text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
        "text/plain;q=0.5, Application/OpenMetrics-Text;version=\"1.0.0\"",
    ] {
        assert!(prefers_openmetrics(accept), "{accept}");
    }
    for accept in [
        "",
        "*/*",
        "text/plain",
        "text/html",
        "application/openmetrics-text;q=0",
        "application/openmetrics-text;version=0.0.1",
        "text/plain, application/openmetrics-text;q=0.5",
    ] {
        assert!(!prefers_openmetrics(accept), "{accept}");
    }
}

#[test]
fn a_reading_that_is_unknown_is_left_out_with_its_name() {
    let mut registry = Registry::default();
    let (plain, by) = (Reading::default(), By::<Reading>::new("state", &["one", "two"]));
    registry.register("plain", "A reading", plain.clone());
    registry.register("by", "Readings", by.clone());
    let shown = |registry: &Registry| {
        let mut text = String::new();
        prometheus_text::encode(&mut text, registry).expect("memory can be written");
        text
    };
    assert_eq!(shown(&registry), "");
    plain.set(1.5);
    by.of("two").set(0.0);
    let text = shown(&registry);
    assert!(text.contains("plain 1.5\n") && text.contains("by{state=\"two\"} 0"), "{text}");
    assert!(!text.contains("one") && !text.contains("NaN"), "{text}");
    plain.forget();
    by.of("two").set_if_known(None);
    assert_eq!(shown(&registry), "");
}

#[test]
fn what_is_held_is_counted_for_as_long() {
    let gauge = Gauge::default();
    let held = (Held::new(&gauge, 3), Held::new(&gauge, 1));
    assert!(gauge.get() == 4);
    drop(held);
    assert!(gauge.get() == 0);
}
