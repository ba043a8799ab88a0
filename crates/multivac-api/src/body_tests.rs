use actix_web::test::TestRequest;

use super::*;

fn form(body: &str) -> Result<String, String> {
    urlencoded(body.as_bytes(), 100).map(|datum| datum.as_str().to_owned()).map_err(|p| p.to_string())
}

#[test]
fn a_form_is_decoded_once() {
    assert_eq!(form("x=1&data=a+b%2Bc%26d%3De%25&y=2&").as_deref(), Ok("a b+c&d=e%"));
    assert_eq!(form("data=100%+sure,+%zz").as_deref(), Ok("100% sure, %zz"));
    assert_eq!(form("data=caf%C3%A9 \u{1f30c}").as_deref(), Ok("café 🌌"));
}

#[test]
fn a_form_without_the_field_says_so() {
    for body in ["", "Data=x", "datax=1", "other=data"] {
        assert_eq!(form(body), Err("the form has no field \"data\"".to_owned()), "{body}");
    }
}

#[test]
fn a_form_that_would_lose_a_part_of_the_text_is_refused() {
    for body in ["data=a&data=b", "data=a&data", "data=salt & pepper", "data=AT&T", "_charset_=latin1&data=x"] {
        assert!(form(body).is_err(), "{body}");
    }
    assert_eq!(form("x&_charset_=UTF-8&data=a").as_deref(), Ok("a"));
}

#[test]
fn bytes_that_are_not_utf8_are_refused() {
    assert_eq!(form("data=%ff"), Err(DatumError::NotUtf8.to_string()));
}

#[test]
fn json_is_an_object_with_a_text() {
    assert_eq!(
        json(br#"{"x":1,"data":"a\u00e9\n"}"#, 100).map(|d| d.as_str().to_owned()).ok().as_deref(),
        Some("aé\n")
    );
    assert_eq!(
        json("\u{feff} {\"data\":\"\u{feff}a\"}".as_bytes(), 100).map(|d| d.as_str().to_owned()).ok(),
        Some("\u{feff}a".to_owned())
    );
    for body in [
        "",
        "{",
        "[]",
        "[\"x\"]",
        "[{\"data\":\"x\"}]",
        "\"data\"",
        "1",
        "null",
        "{\"data\":1}",
        "{\"data\":null}",
        "{\"data\":[\"x\"]}",
        "{}",
        "{\"data\":\" \"}",
        "{\"data\":\"a\",\"data\":\"b\"}",
        "{\"data\":\"\\ud800\"}",
        "{\"data\":\"a\"} x",
        "{\"data\":\"a\"}{\"data\":\"b\"}",
    ] {
        assert!(json(body.as_bytes(), 100).is_err(), "{body}");
    }
}

#[test]
fn what_is_wrong_with_json_is_told_by_its_place() {
    let detail = |problem: Result<Datum, Problem>| problem.map(|_| ()).map_err(|problem| problem.to_string());
    assert_eq!(detail(json(b"{\n \"data\": x}", 100)), Err("malformed JSON at line 2, column 10".to_owned()));
    assert_eq!(
        detail(json_line(b"{\"data\": x}", 100).map(|(datum, _)| datum)),
        Err("malformed JSON at column 10".to_owned())
    );
}

#[test]
fn content_codings_are_compared_without_regard_to_case() {
    let request = |values: &[&str]| {
        values
            .iter()
            .fold(TestRequest::default(), |request, value| request.append_header((CONTENT_ENCODING, *value)))
            .to_http_request()
    };
    for values in
        [&[] as &[&str], &["identity"], &["Identity"], &["identity, IDENTITY"], &["identity", "identity"], &[""]]
    {
        assert!(refuse_encoding(&request(values)).is_ok(), "{values:?}");
    }
    for values in [&["gzip"] as &[&str], &["identity", "gzip"], &["identity, br"], &["GZIP"], &["aws-chunked"]] {
        assert!(refuse_encoding(&request(values)).is_err(), "{values:?}");
    }
}

proptest::proptest! {
    #[test]
    fn any_bytes_are_a_datum_or_a_problem(body: Vec<u8>) {
        let _ = urlencoded(&body, 100);
        let _ = json(&body, 100);
        let _ = super::text(&body, 100);
    }

    #[test]
    fn any_text_comes_through_as_it_was(text in "\\PC{1,20}") {
        proptest::prop_assume!(Datum::new(&text, 100).is_ok());
        let encoded = percent_encoding::utf8_percent_encode(&text, percent_encoding::NON_ALPHANUMERIC);
        proptest::prop_assert_eq!(form(&format!("x&data={encoded}&y=")), Ok(text.clone()));
        let body = serde_json::json!({ "data": text }).to_string();
        let datum = json(body.as_bytes(), 1_000).map(|datum| datum.as_str().to_owned());
        proptest::prop_assert_eq!(datum.ok(), Some(text));
    }
}
