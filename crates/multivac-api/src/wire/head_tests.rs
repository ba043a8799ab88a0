use actix_web::ResponseError;
use actix_web::http::Uri;

use super::*;

fn checked(head: &str) -> Result<(Body, Option<String>), u16> {
    let line = head.find('\n').expect("a line") + 1;
    let checked = check(head.as_bytes(), line).map_err(|problem| problem.status_code().as_u16())?;
    Ok((checked.0, checked.1.map(|head| String::from_utf8(head).expect("ASCII"))))
}

/// What becomes of a first line: itself, another, or a status.
fn line(line: &str) -> Result<String, u16> {
    let head = format!("{line}\r\nHost: x\r\n\r\n");
    let (_, rewritten) = checked(&head)?;
    let rewritten = rewritten.unwrap_or(head);
    Ok(rewritten.lines().next().expect("a line").to_owned())
}

/// What becomes of a request with these fields.
fn fields(fields: &str) -> Result<Body, u16> {
    checked(&format!("POST /multivac/data HTTP/1.1\r\n{fields}\r\n")).map(|(body, _)| body)
}

#[test]
fn a_target_that_is_written_as_it_is_typed_is_encoded() {
    for (sent, passed_on) in [
        ("GET / HTTP/1.1", "GET / HTTP/1.1"),
        ("get /multivac?question=a%20b+c HTTP/1.0", "get /multivac?question=a%20b+c HTTP/1.0"),
        ("GET /x?question=\"é\" HTTP/1.1", "GET /x?question=%22%C3%A9%22 HTTP/1.1"),
        ("GET /{a|b}\\^`<c> HTTP/1.1", "GET /%7Ba%7Cb%7D%5C%5E%60%3Cc%3E HTTP/1.1"),
        ("GET /?%zz=% HTTP/1.1", "GET /?%zz=% HTTP/1.1"),
        ("GET /a/../b/%2e%2E/..%2f HTTP/1.1", "GET /a/../b/%2e%2E/..%2f HTTP/1.1"),
        ("GET http://x:80/multivac?question=é HTTP/1.1", "GET http://x:80/multivac?question=%C3%A9 HTTP/1.1"),
        ("GET /zzz HTTP/1.9", "GET /zzz HTTP/1.1"),
    ] {
        assert_eq!(line(sent).as_deref(), Ok(passed_on), "{sent}");
    }
}

#[test]
fn a_first_line_that_cannot_be_read_has_its_status() {
    for (sent, status) in [
        ("GET", 400),
        ("GET ", 400),
        (" / HTTP/1.1", 400),
        ("G(T / HTTP/1.1", 400),
        ("GET /a b HTTP/1.1", 400),
        ("GET  / HTTP/1.1", 400),
        ("GET / HTTP/1.1 ", 400),
        ("GET / HTTP/1.1x", 400),
        ("GET / HTTP/x", 400),
        ("GET / http/1.1", 400),
        ("GET /\t HTTP/1.1", 400),
        ("GET /\0 HTTP/1.1", 400),
        ("GET /a#b HTTP/1.1", 400),
        ("GET /%zz HTTP/1.1", 400),
        ("GET /a% HTTP/1.1", 400),
        ("GET /%00 HTTP/1.1", 400),
        ("GET /../.. HTTP/1.1", 400),
        ("GET /a/%2e./.. HTTP/1.1", 400),
        ("OPTIONS * HTTP/1.1", 400),
        ("GET multivac HTTP/1.1", 400),
        ("GET ftp://x/ HTTP/1.1", 400),
        ("GET http:///x HTTP/1.1", 400),
        ("GET http://x/%zz HTTP/1.1", 400),
        ("CONNECT x:443 HTTP/1.1", 405),
        ("GET /multivac", 505),
        ("GET / HTTP/0.9", 505),
        ("GET / HTTP/2.0", 505),
        ("GET / HTTP/3.0", 505),
        ("PRI * HTTP/2.0", 505),
        (&format!("GET /{} HTTP/1.1", "x".repeat(MAX_LINE)), 414),
    ] {
        assert_eq!(line(sent), Err(status), "{sent:?}");
    }
}

#[test]
fn the_body_behind_a_head_has_one_end() {
    for (sent, body) in [
        ("Host: x\r\n", Ok(Body::Length(0))),
        ("Host: x\r\nContent-Length: 5\r\n", Ok(Body::Length(5))),
        ("Host: x\r\ntransfer-encoding: Chunked\r\n", Ok(Body::Chunked)),
        ("Host: x\r\nExpect: 100-Continue\r\n", Ok(Body::Length(0))),
        ("", Err(400)),
        ("Host: x\r\nHost: x\r\n", Err(400)),
        ("Host: x\r\nContent-Length: 5\r\nContent-Length: 5\r\n", Err(400)),
        ("Host: x\r\nContent-Length: 5, 5\r\n", Err(400)),
        ("Host: x\r\nContent-Length: -5\r\n", Err(400)),
        ("Host: x\r\nContent-Length: +5\r\n", Err(400)),
        ("Host: x\r\nContent-Length: 0x5\r\n", Err(400)),
        ("Host: x\r\nContent-Length:\r\n", Err(400)),
        ("Host: x\r\nContent-Length: 99999999999999999999\r\n", Err(400)),
        ("Host: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n", Err(400)),
        ("Host: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", Err(400)),
        ("Host: x\r\nTransfer-Encoding: gzip, chunked\r\n", Err(400)),
        ("Host: x\r\nTransfer-Encoding: identity\r\n", Err(400)),
        ("Host: x\r\nTransfer-Encoding: \x0bchunked\r\n", Err(400)),
        ("Host: x\r\nContent-Length : 5\r\n", Err(400)),
        ("Host: x\r\nX: a\r\n b\r\n", Err(400)),
        ("Host: x\r\nX: a\rb\r\n", Err(400)),
        ("Host: x\r\nX: a\0b\r\n", Err(400)),
        ("Host: x\r\nX\r\n", Err(400)),
        ("Host: x\r\n: x\r\n", Err(400)),
        ("Host: x\r\nExpect: something-else\r\n", Err(417)),
        ("Host: x\r\nExpect: 100-continue, something-else\r\n", Err(417)),
    ] {
        assert_eq!(fields(sent), body, "{sent:?}");
    }
    let many: String = (0..MAX_FIELDS).map(|n| format!("X-{n}: {n}\r\n")).collect();
    assert_eq!(fields(&format!("Host: x\r\n{many}")), Err(431));
    let old = |fields: &str| checked(&format!("POST / HTTP/1.0\r\n{fields}\r\n")).map(|(body, _)| body);
    assert_eq!(old("Content-Length: 5\r\nExpect: whatever\r\n"), Ok(Body::Length(5)));
    assert_eq!(old(""), Err(400));
    assert_eq!(old("Transfer-Encoding: chunked\r\n"), Err(400));
}

#[test]
fn an_offer_to_upgrade_is_passed_over() {
    for (sent, passed_on) in [
        ("Upgrade: websocket\r\nConnection: Upgrade, keep-alive\r\nX: y\r\n", "Connection: keep-alive\r\nX: y\r\n"),
        ("Connection: upgrade\r\n", "Connection: \r\n"),
    ] {
        let head = checked(&format!("POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n{sent}\r\n"));
        let expected = format!("POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n{passed_on}\r\n");
        assert_eq!(head, Ok((Body::Length(5), Some(expected))));
    }
}

proptest::proptest! {
    /// Whatever passes is taken by the parsers behind it, and says the same to them.
    #[test]
    fn any_head_is_refused_or_readable(
        target in "/[ -~é\t]{0,30}|.{0,10}|https?://[ -~é]{0,20}",
        version in "HTTP/1\\.[0-9]|.{0,10}",
        lines in "(Host: x\r\n)?([!-~]{1,10}:[ -~é\t]{0,10}\r\n){0,3}|[ -~\r\n]{0,40}",
    ) {
        let head = format!("GET {target} {version}\r\n{lines}\r\n");
        let line = head.find('\n').expect("a line") + 1;
        if let Ok((_, rewritten)) = check(head.as_bytes(), line) {
            let head = rewritten.unwrap_or_else(|| head.clone().into_bytes());
            let mut fields = [EMPTY_HEADER; MAX_FIELDS];
            let mut request = httparse::Request::new(&mut fields);
            proptest::prop_assert!(request.parse(&head).is_ok_and(|status| status.is_complete()));
            proptest::prop_assert!(request.path.expect("a target").parse::<Uri>().is_ok());
        }
    }
}
