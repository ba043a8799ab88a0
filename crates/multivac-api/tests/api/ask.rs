//! Asking: the standing question and any other, as text and as JSON.

use crate::test_app::TestApp;

const STANDING: &str = "How can the entropy of the universe be reversed?";
const INSUFFICIENT: &str = "INSUFFICIENT DATA FOR MEANINGFUL ANSWER.";

async fn standing(app: &TestApp) -> String {
    app.get("/multivac").await.text().await.unwrap()
}

#[actix_web::test]
async fn data_that_do_not_answer_the_question_give_no_answer() {
    let app = TestApp::start(&[]).await;
    let texts = [
        "foo",
        "test",
        "Bring the water to the boil, add the pasta, and cook it for nine minutes. Reverse the pan over a plate.",
        STANDING,
        "The universe is about 13.8 billion years old.",
    ];
    for text in texts {
        app.teach(text).await;
        assert_eq!(standing(&app).await, INSUFFICIENT, "after {text}");
    }
    let reply = app.json("/multivac").await;
    assert_eq!((&reply["status"], &reply["answer"]), (&"insufficient_data".into(), &serde_json::Value::Null));
    assert!(reply["confidence"].as_f64().unwrap() < 0.5);
    assert_eq!(reply["question"], STANDING);
    assert_eq!(reply["learned"], 5);
    app.stop().await;
}

#[actix_web::test]
async fn an_answer_is_given_word_for_word_with_its_evidence() {
    let app = TestApp::start(&[]).await;
    app.teach("Bring the water to the boil, and add the pasta.").await;
    let sentence = "The entropy of the universe can be reversed by gathering all of the starlight.";
    let id = app.teach(&format!("Much was said before. {sentence} Nobody has tried it.")).await;
    assert_eq!(standing(&app).await, sentence);
    let reply = app.json("/multivac").await;
    assert_eq!((&reply["status"], &reply["answer"]), (&"answered".into(), &sentence.into()));
    let best = &reply["evidence"][0];
    assert_eq!(best["id"], id.as_str());
    assert!(best["passage"].as_str().unwrap().contains(sentence));
    assert_eq!(best["score"], reply["confidence"]);
    app.stop().await;
}

#[actix_web::test]
async fn any_other_question_is_answered_in_the_same_way() {
    let app = TestApp::start(&[]).await;
    app.teach("Multivac was built in 2061. The technicians of Multivac were Adell and Lupov.").await;
    let reply = app.ask("Who were the technicians of Multivac?").await;
    assert_eq!(reply["answer"], "The technicians of Multivac were Adell and Lupov.");
    assert_eq!(app.ask("What do penguins eat?").await["status"], "insufficient_data");
    app.stop().await;
}

#[actix_web::test]
async fn the_standing_question_can_be_changed() {
    let app = TestApp::start(&["--question", "Who built Multivac?"]).await;
    app.teach("Multivac was built by Adell and Lupov.").await;
    assert_eq!(standing(&app).await, "Multivac was built by Adell and Lupov.");
    app.stop().await;
}

#[actix_web::test]
async fn a_retraction_takes_the_answer_back_at_once() {
    let app = TestApp::start(&[]).await;
    let id = app.teach("The entropy of the universe can be reversed by gathering all of the starlight.").await;
    assert_ne!(standing(&app).await, INSUFFICIENT);
    for _ in 0..2 {
        let path = format!("/multivac/data/{id}");
        assert_eq!(app.request(reqwest::Method::DELETE, &path).send().await.unwrap().status(), 204);
        assert_eq!(standing(&app).await, INSUFFICIENT);
        let datum = app.json(&path).await;
        assert_eq!((&datum["status"], &datum["passages"]), (&"retracted".into(), &0.into()));
    }
    let stats = app.json("/multivac/stats").await;
    assert_eq!((&stats["accepted"], &stats["retracted"], &stats["learned"]), (&1.into(), &1.into(), &0.into()));
    app.stop().await;
}

#[actix_web::test]
async fn what_was_learned_is_known_after_a_restart() {
    let app = TestApp::start(&[]).await;
    let sentence = "The entropy of the universe can be reversed by gathering all of the starlight.";
    app.teach(sentence).await;
    let directory = app.stop().await;
    let app = TestApp::start_in(directory, &[]).await;
    assert_eq!(standing(&app).await, sentence);
    assert_eq!(app.json("/multivac/stats").await["accepted"], 1);
    app.stop().await;
}

#[actix_web::test]
async fn an_answer_is_sent_again_only_when_it_has_changed() {
    let app = TestApp::start(&[]).await;
    let ask = |accept: &'static str, held: &str| {
        let request = app.request(reqwest::Method::GET, "/multivac").header("Accept", accept);
        request.header("If-None-Match", held).send()
    };
    let tag = |reply: &reqwest::Response| reply.headers()["etag"].to_str().unwrap().to_owned();
    let text = ask("text/plain", "\"other\"").await.unwrap();
    assert_eq!(
        (text.status(), &text.headers()["cache-control"]),
        (reqwest::StatusCode::OK, &"no-cache".parse().unwrap())
    );
    let held = tag(&text);
    for same in [held.clone(), format!("\"other\", W/{held}"), "*".to_owned()] {
        let reply = ask("text/plain", &same).await.unwrap();
        assert_eq!((reply.status().as_u16(), tag(&reply)), (304, held.clone()), "{same}");
        assert_eq!(reply.headers()["vary"], "Accept");
        assert!(reply.bytes().await.unwrap().is_empty());
    }
    assert_eq!(ask("application/json", &held).await.unwrap().status(), 200, "the JSON is another");
    app.teach("The entropy of the universe can be reversed by gathering all of the starlight.").await;
    assert_eq!(ask("text/plain", &held).await.unwrap().status(), 200, "the answer is another");
    app.stop().await;
}
