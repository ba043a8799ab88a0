//! `GET /docs`: a page that shows the OpenAPI document.

use reqwest::Method;

use crate::test_app::TestApp;

#[actix_web::test]
async fn the_page_of_the_document_needs_nothing_from_elsewhere_and_is_revalidated() {
    let app = TestApp::start(&[]).await;
    let reply = app.get("/docs").await;
    assert_eq!(
        (reply.status().as_u16(), &reply.headers()["content-type"]),
        (200, &"text/html; charset=utf-8".parse().unwrap())
    );
    let policy = reply.headers()["content-security-policy"].to_str().unwrap().to_owned();
    assert!(policy.starts_with("default-src 'none'; ") && policy.contains("connect-src 'self'"), "{policy}");
    assert!(policy.contains("script-src 'sha256-") && !policy.contains("unsafe"), "{policy}");
    let etag = reply.headers()["etag"].clone();
    let page = reply.text().await.unwrap();
    assert!(page.contains("/openapi.json") && !page.contains("//cdn") && !page.contains("src="), "{page}");
    for other in ["https://", "http://"] {
        assert!(!page.contains(other), "{other}");
    }
    let again = app.request(Method::GET, "/docs").header("If-None-Match", etag).send().await.unwrap();
    assert_eq!((again.status().as_u16(), &*again.bytes().await.unwrap()), (304, &b""[..]));
    let head = app.request(Method::HEAD, "/docs").send().await.unwrap();
    assert_eq!(
        (head.status().as_u16(), head.headers()["content-length"].to_str().unwrap()),
        (200, &*page.len().to_string())
    );
    let post = app.request(Method::POST, "/docs").send().await.unwrap();
    assert_eq!((post.status().as_u16(), &post.headers()["allow"]), (405, &"GET, HEAD, OPTIONS".parse().unwrap()));
    assert_eq!(app.get("/docs/").await.status(), 404);
    app.stop().await;
}
