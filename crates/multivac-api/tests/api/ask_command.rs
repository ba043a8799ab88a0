//! `multivac-api ask`, on the real program.

use multivac_testkit::port::free_port;
use reqwest::Client;
use serde_json::Value;

use crate::program::{Program, program};

/// Asks; the status, and what was said on both outputs.
fn ask(words: &[&str], to: &str) -> (Option<i32>, String, String) {
    let output = program(&[&["ask", "--to", to], words].concat()).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let (out, err) = (text(output.stdout), text(output.stderr));
    assert!(!err.contains("panicked"), "{err}");
    (output.status.code(), out, err)
}

#[tokio::test]
async fn the_answer_is_printed_alone_and_without_one_exactly_that() {
    let directory = tempfile::tempdir().unwrap();
    let server = Program::start(&["--data-dir", directory.path().to_str().unwrap()]);
    let client = Client::new();
    server.until(&client, "/readyz", |ready| ready["ready"] == true).await;
    let insufficient = "INSUFFICIENT DATA FOR MEANINGFUL ANSWER.\n".to_owned();
    assert_eq!(ask(&[], &server.base), (Some(1), insufficient.clone(), String::new()));
    for text in ["Owls eat voles.", "Entropy can be reversed by gathering all of the starlight."] {
        let fed = client.post(format!("{}/multivac/data", server.base)).form(&[("data", text)]).send().await.unwrap();
        assert!(fed.status().is_success());
    }
    server.until(&client, "/multivac/stats", |stats| stats["learned"] == 2 && stats["passages"] == 2).await;
    let answered = |text: &str| (Some(0), format!("{text}\n"), String::new());
    assert_eq!(ask(&["What do owls eat?"], &server.base), answered("Owls eat voles."));
    assert_eq!(ask(&["What", "do", "owls", "eat?"], &server.base), answered("Owls eat voles."));
    let standing = answered("Entropy can be reversed by gathering all of the starlight.");
    assert_eq!(ask(&[], &format!("{}/", server.base)), standing);
    assert_eq!(ask(&["Who is zyzx & co? #+%"], &server.base), (Some(1), insufficient, String::new()));
    // As the server has it.
    let (code, json, _) = ask(&["--json", "What do owls eat?"], &server.base);
    let asked = client.get(format!("{}/multivac", server.base)).query(&[("question", "What do owls eat?")]);
    let own = asked.header("Accept", "application/json").send().await.unwrap().text().await.unwrap();
    assert_eq!((code, json.trim_end()), (Some(0), own.as_str()));
    assert_eq!(serde_json::from_str::<Value>(&json).unwrap()["status"], "answered");
    for length in [1_001, 60_000] {
        let (code, _, said) = ask(&[&"é".repeat(length)], &server.base);
        assert!(code == Some(2) && said.contains("1000 characters"), "{said}");
    }
}

#[tokio::test]
async fn who_cannot_be_asked_is_told() {
    let nobody = format!("http://127.0.0.1:{}", free_port());
    let (code, out, said) = ask(&["What?"], &nobody);
    assert_eq!((code, out.as_str()), (Some(2), ""));
    assert!(said.contains("does not reply: Connection refused"), "{said}");
    assert_eq!(ask(&["What?"], "https://susan:s3cret@localhost").0, Some(2));
}
