//! Trace contexts as headers and as fields.
#![allow(clippy::unwrap_used)]

use super::*;

const EXAMPLE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn context_of(span: SpanContext) -> Context {
    Context::new().with_remote_span_context(span)
}

#[test]
fn a_context_comes_through_a_field_with_its_tracestate() {
    let span = remote(EXAMPLE, "vendor=x,other=y").unwrap();
    let field = to_field(&context_of(span.clone())).unwrap();
    assert_eq!(field, format!("{EXAMPLE} vendor=x,other=y"));
    let (traceparent, tracestate) = field.split_once(' ').unwrap();
    assert_eq!(remote(traceparent, tracestate), Some(span));
}

#[test]
fn a_field_has_no_tracestate_that_nobody_needs_or_that_is_too_long() {
    let unsampled = EXAMPLE.replace("-01", "-00");
    assert_eq!(to_field(&context_of(remote(&unsampled, "a=b").unwrap())), Some(unsampled));
    let long = (0..4).map(|n| format!("k{n}={}", "v".repeat(200))).collect::<Vec<_>>().join(",");
    assert_eq!(to_field(&context_of(remote(EXAMPLE, &long).unwrap())).as_deref(), Some(EXAMPLE));
    assert_eq!(to_field(&Context::new()), None);
}

#[test]
fn only_the_sampled_flag_of_a_field_is_looked_at() {
    assert!(is_sampled(EXAMPLE) && is_sampled(&EXAMPLE.replace("-01", "-03")) && is_sampled(&format!("{EXAMPLE} a=b")));
    for field in ["", "00-a-b-01", "nonsense", &EXAMPLE.replace("-01", "-00"), &EXAMPLE.replace("-01", "-02")] {
        assert!(!is_sampled(field), "{field}");
    }
}

#[test]
fn what_the_standard_forbids_is_no_context() {
    for text in [
        "",
        "nonsense",
        "00-a-b-01",
        "0-1-2-1",
        "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
        "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00F067AA0BA902B7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-+1",
        "0x-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01x",
        "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01x",
        "00-004bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1",
        "00_4bf92f3577b34da6a3ce929d0e0e4736_00f067aa0ba902b7_01",
        &"0".repeat(10_000),
    ] {
        assert_eq!(remote(text, ""), None, "{text}");
    }
}

#[test]
fn a_later_version_is_read_as_this_one_and_its_other_flags_are_left_out() {
    let later = remote(&EXAMPLE.replacen("00", "cc", 1).replace("-01", "-ff-what-comes-later"), "").unwrap();
    assert_eq!(to_field(&context_of(later)).as_deref(), Some(EXAMPLE));
}

#[test]
fn a_tracestate_that_cannot_be_read_leaves_the_traceparent() {
    let span = remote(EXAMPLE, "no list").unwrap();
    assert_eq!(to_field(&context_of(span)).as_deref(), Some(EXAMPLE));
}

#[test]
fn where_nothing_is_sent_a_callers_context_is_passed_on_and_others_get_ids() {
    let caller = context_of(remote(EXAMPLE, "a=b").unwrap());
    let passed = start(SpanBuilder::from_name("request"), &caller, None);
    assert_eq!(passed.span().span_context(), caller.span().span_context());
    let id = id_of_request("4bf92f3577b34da6a3ce929d0e0e4736");
    let given = start(SpanBuilder::from_name("request"), &Context::new(), id);
    assert_eq!(given.span().span_context().trace_id(), id.unwrap());
    assert!(!given.span().span_context().is_sampled() && !given.span().is_recording());
    let new = start(SpanBuilder::from_name("request"), &Context::new(), None);
    assert!(new.span().span_context().is_valid());
    assert_ne!(new.span().span_context().trace_id(), id.unwrap());
}

#[test]
fn an_id_of_another_form_is_no_trace_id() {
    for id in ["", "x", "00000000000000000000000000000000", "4BF92F3577B34DA6A3CE929D0E0E4736", &"1".repeat(33)] {
        assert_eq!(id_of_request(id), None, "{id}");
    }
}
