//! The OpenAPI document: as it was read last, and true of the application.

use std::collections::BTreeSet;

use multivac_testkit::snapshot;
use reqwest::Method;
use serde_json::Value;

use crate::test_app::TestApp;

const METHODS: [Method; 7] =
    [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS];

#[actix_web::test]
async fn the_document_is_the_one_that_was_read_last() {
    let app = TestApp::start(&[]).await;
    let reply = app.get("/openapi.json").await;
    assert_eq!(reply.headers()["content-type"], "application/json");
    let document = reply.text().await.unwrap();
    snapshot::compare("crates/multivac-api/tests/api/snapshots/openapi.json", &format!("{document}\n"));
    app.stop().await;
}

/// The methods that the document gives to a path.
fn documented(item: &Value) -> BTreeSet<String> {
    let methods = item.as_object().unwrap().keys().map(|method| method.to_uppercase());
    methods.filter(|method| METHODS.iter().any(|other| other.as_str() == method)).collect()
}

#[actix_web::test]
async fn every_path_has_the_documented_methods_and_no_others() {
    let app = TestApp::start(&[]).await;
    let document = app.json("/openapi.json").await;
    assert_eq!(document["openapi"], "3.1.0");
    let paths = document["paths"].as_object().unwrap();
    for path in ["/", "/multivac", "/multivac/data", "/multivac/data/bulk", "/multivac/data/{id}", "/readyz"] {
        assert!(paths.contains_key(path), "{path}");
    }
    let id = app.teach("Stars go out.").await;
    for (path, item) in paths {
        let documented = documented(item);
        let allow: Value = item["options"]["responses"]["204"]["headers"]["Allow"]["schema"]["enum"][0].clone();
        for method in METHODS {
            let reply = app.request(method.clone(), &path.replace("{id}", &id)).send().await.unwrap();
            let status = reply.status().as_u16();
            let allowed = reply.headers().get("allow").map(|allow| allow.to_str().unwrap().to_owned());
            if documented.contains(method.as_str()) {
                let parameters = item[method.as_str().to_lowercase()]["parameters"].as_array().cloned();
                let names_id = parameters.is_some_and(|parameters| parameters.iter().any(|p| p["in"] == "path"));
                assert_eq!(names_id, path.contains('{'), "{method} {path}");
                // The datum is no dead letter.
                let is_found = status != 404 || path.starts_with("/multivac/dead/{id}");
                assert!(is_found && status != 405, "{method} {path}: {status}");
                let responses = item[method.as_str().to_lowercase()]["responses"].as_object().unwrap();
                assert!(responses.contains_key(&status.to_string()), "{method} {path} replies {status}");
            } else {
                assert_eq!(status, 405, "{method} {path}");
            }
            if method == Method::OPTIONS || status == 405 {
                let allowed = allowed.unwrap();
                assert_eq!(allow, allowed.as_str(), "{method} {path}");
                let allowed: BTreeSet<String> = allowed.split(", ").map(str::to_owned).collect();
                assert_eq!(allowed, documented, "{path}");
            }
        }
    }
    app.stop().await;
}

/// Every object of the document, and what it is called by.
fn walk<'a>(value: &'a Value, see: &mut impl FnMut(&'a Value)) {
    see(value);
    match value {
        Value::Object(fields) => fields.values().for_each(|value| walk(value, see)),
        Value::Array(items) => items.iter().for_each(|value| walk(value, see)),
        _ => {}
    }
}

#[actix_web::test]
async fn what_the_document_refers_to_is_in_it_and_ids_are_unique() {
    let app = TestApp::start(&[]).await;
    let document = app.json("/openapi.json").await;
    let (mut references, mut ids) = (0, Vec::new());
    walk(&document, &mut |value| {
        if let Some(reference) = value["$ref"].as_str() {
            references += 1;
            assert!(document.pointer(reference.trim_start_matches('#')).is_some(), "{reference}");
        }
        ids.extend(value["operationId"].as_str());
    });
    assert!(references > 20, "{references}");
    let unique: BTreeSet<&str> = ids.iter().copied().collect();
    assert_eq!(unique.len(), ids.len(), "{ids:?}");
    app.stop().await;
}
