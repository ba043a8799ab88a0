use actix_web::test::TestRequest;

use super::*;

fn form(body: &str) -> Result<String, String> {
    urlencoded(body.as_bytes(), 100).map(|datum| datum.as_str().to_owned()).map_err(|p| p.to_string())
}

#[test]
fn a_form_is_decoded_once() {
    assert_eq!(form("x=1&data=a+b%2Bc%26d%3De%25&data=second").as_deref(), Ok("a b+c&d=e%"));
    assert_eq!(form("data=caf%C3%A9 \u{1f30c}").as_deref(), Ok("café 🌌"));
}

#[test]
fn a_form_without_the_field_says_so() {
    for body in ["", "Data=x", "datax=1", "other=data"] {
        assert_eq!(form(body), Err("the form has no field \"data\"".to_owned()), "{body}");
    }
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
    for body in ["", "{", "[]", "\"data\"", "{\"data\":1}", "{\"data\":null}", "{}", "{\"data\":\" \"}"] {
        assert!(json(body.as_bytes(), 100).is_err(), "{body}");
    }
}

#[test]
fn a_charset_other_than_utf8_is_refused() {
    for (media, is_taken) in [
        ("text/plain", true),
        ("text/plain; charset=utf-8", true),
        ("text/plain; charset=\"UTF-8\"", true),
        ("text/plain;charset=us-ascii; format=flowed", true),
        ("text/plain ; charset=utf-8 ; format=flowed", true),
        ("Text/Plain; charset", true),
        ("text/plain; charset=latin1", false),
    ] {
        let request = TestRequest::default().insert_header((CONTENT_TYPE, media)).to_http_request();
        assert_eq!(media_type(&request), "text/plain", "{media}");
        assert_eq!(require_utf8(&request).is_ok(), is_taken, "{media}");
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
        proptest::prop_assume!(!text.trim().is_empty());
        let encoded = percent_encoding::utf8_percent_encode(&text, percent_encoding::NON_ALPHANUMERIC);
        proptest::prop_assert_eq!(form(&format!("x&data={encoded}&y=")), Ok(text.clone()));
        let body = serde_json::json!({ "data": text }).to_string();
        let datum = json(body.as_bytes(), 1_000).map(|datum| datum.as_str().to_owned());
        proptest::prop_assert_eq!(datum.ok(), Some(text));
    }
}
