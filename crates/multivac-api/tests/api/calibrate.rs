//! `multivac-api calibrate` and `--calibration`, with both kinds of backends.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use clap::Parser;
use multivac_api::config::Config;
use multivac_core::adapters::{Backends, Prepared};
use multivac_core::datum::Timestamp;
use multivac_core::process::process;
use multivac_core::queue::QueueSettings;
use multivac_core::store::{Put, StoredDatum};
use multivac_testkit::backends::SharedServers;
use multivac_testkit::disk::SmallDisk;
use multivac_testkit::process::{Process, refusal};
use multivac_testkit::sample::job;
use reqwest::Client;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::program::{Program, program};

const PEOPLE: [&str; 10] = ["Mira", "Tobias", "Petra", "Jon", "Edda", "Ruben", "Sanna", "Otto", "Vera", "Hugo"];
const TOWNS: [&str; 6] = ["Tarn", "Velm", "Osk", "Brae", "Lund", "Quay"];

/// A keeper for each lighthouse of a town, as data; of each third one nobody has said anything.
fn data() -> Vec<StoredDatum> {
    let told = keepers().filter(|(at, ..)| !at.is_multiple_of(3));
    told.map(|(_, town, number, person)| {
        process(
            &job(&format!("The lighthouse {town} {number} is kept by {person} since 19{number}.")),
            Timestamp::now(),
        )
    })
    .collect()
}

fn keepers() -> impl Iterator<Item = (usize, &'static str, usize, &'static str)> {
    (0..60).map(|at| (at, TOWNS[at / 10], 10 + at, PEOPLE[at % 10]))
}

fn question(town: &str, number: usize) -> String {
    format!("Who keeps the lighthouse {town} {number}?")
}

/// A question for each lighthouse, with null where nobody has said it.
fn questions() -> String {
    let line = |(at, town, number, person): (usize, &str, usize, &str)| {
        let answer = if at.is_multiple_of(3) { Value::Null } else { json!([person, "nobody at all"]) };
        format!("{}\n", json!({"question": question(town, number), "answer": answer}))
    };
    keepers().map(line).collect()
}

async fn embedded(directory: &Path, data: &[StoredDatum]) -> String {
    let backends = Backends::embedded(directory, QueueSettings::default()).unwrap();
    assert_eq!(backends.store.put(data).await.unwrap(), vec![Put::Stored; data.len()]);
    directory.to_str().unwrap().to_owned()
}

fn calibrate(words: &[&str], flags: &[&str]) -> Output {
    program(&[&["calibrate"], words, flags].concat()).output().unwrap()
}

fn done(words: &[&str], flags: &[&str]) -> String {
    let Output { status, stdout, stderr } = calibrate(words, flags);
    assert_eq!(status.code(), Some(0), "{words:?}: {}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).unwrap()
}

fn refused(words: &[&str], flags: &[&str]) -> String {
    let Output { status, stdout, stderr } = calibrate(words, flags);
    let said = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(1), "{words:?}: {said}");
    assert!(stdout.is_empty() && !said.contains("panicked"), "{said}");
    said
}

fn text_of(path: &Path) -> &str {
    path.to_str().unwrap()
}

async fn ask(program: &Program, client: &Client, question: &str) -> Value {
    let ask = client.get(format!("{}/multivac", program.base)).query(&[("question", question)]);
    ask.header("Accept", "application/json").send().await.unwrap().json().await.unwrap()
}

/// The scores of the evidence, which begin with the confidence.
fn scores(reply: &Value) -> Vec<f64> {
    let scores = reply["evidence"].as_array().unwrap().iter().map(|evidence| evidence["score"].as_f64().unwrap());
    scores.collect()
}

#[tokio::test]
async fn what_is_calibrated_beside_a_server_is_what_confidence_means_from_then_on() {
    let directory = tempfile::tempdir().unwrap();
    let place = embedded(&directory.path().join("data"), &data()).await;
    let flags = ["--data-dir", place.as_str()];
    let (questions_file, file) = (directory.path().join("questions.ndjson"), directory.path().join("curve.json"));
    fs::write(&questions_file, questions()).unwrap();
    let (questions_file, out) = (text_of(&questions_file), text_of(&file));
    let running = Program::start(&flags);
    let client = Client::new();
    running.until(&client, "/readyz", |ready| ready["ready"] == true).await;
    let said = done(&[questions_file, "--out", out], &flags);
    assert!(said.starts_with("60 questions, 40 of them with an answer, asked of 40 data;"), "{said}");
    for part in ["0.9 to 1.0", "calibration error", "AUROC", "best F1", &format!("--calibration {out}")] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(refused(&[questions_file, "--out", out], &flags).contains("curve.json exists: --force replaces it"));
    let told: Value =
        serde_json::from_str(&done(&[questions_file, "--out", out, "--force", "--json"], &flags)).unwrap();
    assert_eq!((&told["questions"], &told["answerable"]), (&60.into(), &40.into()));
    assert!(told["after"]["brier"].as_f64() <= told["before"]["brier"].as_f64(), "{told}");

    let asked: Vec<String> = keepers().step_by(7).map(|(_, town, number, _)| question(town, number)).collect();
    let mut before = Vec::new();
    for question in &asked {
        before.push(ask(&running, &client, question).await);
    }
    assert!(before.iter().any(|reply| scores(reply).len() > 2), "there is evidence to compare");
    assert_eq!(ask(&running, &client, "zzyzx?").await["confidence"], 0.0);
    drop(running);

    // Once with the curve of the questions, once with one that can be computed by hand.
    let mut written: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    let own = (written["curve"].clone(), written["min_confidence"].as_f64().unwrap());
    let by_hand = (json!([[0.0, 0.1], [1.0, 0.6]]), 0.35);
    for (curve, min_confidence) in [own, by_hand] {
        written["curve"] = curve.clone();
        written["min_confidence"] = min_confidence.into();
        fs::write(&file, written.to_string()).unwrap();
        let running = Program::start(&[&flags[..], &["--calibration", out]].concat());
        running.until(&client, "/readyz", |ready| ready["ready"] == true).await;
        for (question, before) in asked.iter().zip(&before) {
            let after = ask(&running, &client, question).await;
            let (of_model, scores) = (scores(before), scores(&after));
            for (of_model, score) in of_model.iter().zip(&scores) {
                let expected = interpolated(&curve, *of_model);
                assert!((score - expected).abs() < 2e-4, "{question}: {of_model} is {score}, expected {expected}");
            }
            let confidence = after["confidence"].as_f64().unwrap();
            assert_eq!(scores.first(), Some(&confidence), "{after}");
            assert!(scores.windows(2).all(|two| two[0] >= two[1]), "{scores:?}");
            assert_eq!(after["status"] == "answered", confidence >= min_confidence, "{after}");
        }
        assert_eq!(ask(&running, &client, "zzyzx?").await["confidence"], 0.0, "what is not found is not likely");
        drop(running);
    }
    // By the variable, too; and the flag of the threshold wins.
    let mut command = program(&[&["--listen", "127.0.0.1:0", "--log-format", "text"], &flags[..]].concat());
    let running = Program::spawn(command.env("MULTIVAC_CALIBRATION", out).env("MULTIVAC_MIN_CONFIDENCE", "0.61"));
    running.until(&client, "/readyz", |ready| ready["ready"] == true).await;
    for question in &asked {
        let reply = ask(&running, &client, question).await;
        assert!(reply["status"] == "insufficient_data" && reply["confidence"].as_f64().unwrap() >= 0.1, "{reply}");
    }
}

/// The value of a curve, worked out a second time.
fn interpolated(curve: &Value, of_model: f64) -> f64 {
    let points: Vec<(f64, f64)> = serde_json::from_value(curve.clone()).unwrap();
    let (first, last) = (points[0], points[points.len() - 1]);
    let between = points.windows(2).find(|two| (two[0].0..=two[1].0).contains(&of_model));
    between.map_or(if of_model < first.0 { first.1 } else { last.1 }, |two| {
        two[0].1 + (two[1].1 - two[0].1) / (two[1].0 - two[0].0) * (of_model - two[0].0)
    })
}

#[tokio::test]
async fn the_same_data_give_the_same_curve_wherever_they_are() {
    let Some(shared) = SharedServers::find() else { return };
    let directory = tempfile::tempdir().unwrap();
    let all = data();
    let place = embedded(&directory.path().join("data"), &all).await;
    let flags = shared.flags();
    let args = Config::parse_from(std::iter::once("multivac-api").chain(flags.iter().map(String::as_str))).backends;
    let urls = args.server_urls().unwrap().unwrap();
    let backends = Backends::servers(urls, &args, args.queue_settings()).await.unwrap();
    assert_eq!(backends.prepare(&CancellationToken::new()).await.unwrap(), Prepared::Ready);
    assert_eq!(backends.store.put(&all).await.unwrap(), vec![Put::Stored; all.len()]);
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let questions_file = directory.path().join("questions.ndjson");
    fs::write(&questions_file, questions()).unwrap();
    let made = |name: &str, flags: &[&str]| {
        let file = directory.path().join(name);
        done(&[text_of(&questions_file), "--out", text_of(&file)], flags);
        let mut made: Value = serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();
        made["calibrated_at"].take();
        made
    };
    assert_eq!(made("servers.json", &flags), made("embedded.json", &["--data-dir", &place]));
    shared.clean_up().await;
}

#[tokio::test]
async fn questions_that_do_not_serve_are_refused_and_nothing_is_written() {
    let directory = tempfile::tempdir().unwrap();
    let place = embedded(&directory.path().join("data"), &data()).await;
    let empty = embedded(&directory.path().join("empty"), &[]).await;
    let (flags, of_empty) = (["--data-dir", place.as_str()], ["--data-dir", empty.as_str()]);
    let out = directory.path().join("out");
    fs::create_dir(&out).unwrap();
    let file = out.join("curve.json");
    let (file, questions_file) = (text_of(&file), directory.path().join("questions.ndjson"));
    let with = |text: &str| {
        fs::write(&questions_file, text).unwrap();
        text_of(&questions_file)
    };
    let long = format!("{}{}\n", questions(), json!({"question": "x".repeat(1_001), "answer": null}));
    let few: String = questions().lines().take(20).map(|line| format!("{line}\n")).collect();
    for (text, expected) in [
        (long.as_str(), "questions.ndjson, line 61: the question is over 1000 characters"),
        ("{\"question\": \"Who?\"}", "questions.ndjson, line 1: expected {\"question\": \"…\", \"answer\""),
        (&few, "questions.ndjson: expected 30 questions or more"),
        ("", "there are 0, 0 right and 0 wrong"),
    ] {
        let said = refused(&[with(text), "--out", file], &flags);
        assert!(said.contains(expected), "{said}");
    }
    let questions_file = with(&questions());
    assert!(refused(&[questions_file, "--out", file], &of_empty).contains("there are no data"));
    assert!(refused(&[questions_file, "--out", file], &["--data-dir", "/nowhere"]).contains("does not exist"));
    assert!(refused(&["nowhere.ndjson", "--out", file], &flags).contains("nowhere.ndjson: No such file"));
    assert!(refused(&[text_of(&out), "--out", file], &flags).contains("directory"));
    assert!(refused(&[questions_file, "--out", text_of(&out)], &flags).contains("is a directory"));
    let nowhere = refused(&[questions_file, "--out", "/nowhere/curve.json"], &flags);
    assert!(nowhere.contains("/nowhere/curve.json: No such file"), "{nowhere}");
    if let Some(disk) = SmallDisk::mount(1) {
        disk.fill();
        let full = disk.path().join("curve.json");
        let said = refused(&[questions_file, "--out", text_of(&full)], &flags);
        assert!(said.contains("curve.json: No space left"), "{said}");
        disk.free();
        assert_eq!(fs::read_dir(disk.path()).unwrap().count(), 0);
    }
    assert_eq!(fs::read_dir(&out).unwrap().count(), 0);
    // From the standard input, and into a file of the current directory where none is named.
    let mut command = program(&[&["calibrate", "-"], &flags[..]].concat());
    let mut asking = command.current_dir(&out).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    asking.stdin.take().unwrap().write_all(questions().as_bytes()).unwrap();
    let ended = asking.wait_with_output().unwrap();
    assert!(ended.status.success(), "{ended:?}");
    let written = fs::read_to_string(out.join("calibration.json")).unwrap();
    // To the standard output, as from a container, which has no place to keep a file.
    let both = calibrate(&[questions_file, "--out", "-"], &flags);
    let written_again: Value = serde_json::from_slice(&both.stdout).unwrap();
    assert_eq!(written_again["curve"], serde_json::from_str::<Value>(&written).unwrap()["curve"]);
    assert!(String::from_utf8(both.stderr).unwrap().contains("calibration error"));
}

#[tokio::test]
async fn a_calibration_that_is_interrupted_leaves_no_file() {
    let directory = tempfile::tempdir().unwrap();
    let place = embedded(&directory.path().join("data"), &data()).await;
    // Each question a few times, in other words, so that asking takes a while.
    let many: String = (0..5)
        .flat_map(|time| keepers().map(move |(at, town, number, person)| (time, at, town, number, person)))
        .map(|(time, at, town, number, person)| {
            let answer = if at.is_multiple_of(3) { Value::Null } else { person.into() };
            let question = format!("{} I ask for time {time}.", question(town, number));
            format!("{}\n", json!({"question": question, "answer": answer}))
        })
        .collect();
    let questions_file = directory.path().join("questions.ndjson");
    fs::write(&questions_file, many).unwrap();
    let out = directory.path().join("out");
    fs::create_dir(&out).unwrap();
    let file = out.join("curve.json");
    let words = ["calibrate", text_of(&questions_file), "--out", text_of(&file), "--data-dir", &place];
    let mut killed = 0;
    for millis in std::iter::successors(Some(50), |millis| Some(millis * 3 / 2)) {
        let mut asking = Process::start(program(&words).stdout(Stdio::null()));
        tokio::time::sleep(Duration::from_millis(millis)).await;
        if asking.has_ended() {
            break;
        }
        let signal = if killed % 2 == 0 { "INT" } else { "KILL" };
        asking.signal(signal);
        asking.ended().await;
        killed += 1;
        for left in fs::read_dir(&out).unwrap().map(|left| left.unwrap().path()).filter(|left| *left != file) {
            // Nobody can remove what is being written when it is killed; it has a name that says so.
            let is_partial = text_of(&left).contains("curve.json.partial-");
            assert!(signal == "KILL" && is_partial, "{signal} after {millis} ms left {left:?}");
            fs::remove_file(left).unwrap();
        }
    }
    assert!(killed > 2, "it was killed {killed} times");
    assert_eq!(fs::read_dir(&out).unwrap().count(), 1);
    let whole: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    assert_eq!(whole["questions"], 300);
}

#[tokio::test]
async fn a_file_that_is_no_calibration_is_refused_at_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let place = embedded(&directory.path().join("data"), &data()).await;
    let (questions_file, file) = (directory.path().join("questions.ndjson"), directory.path().join("curve.json"));
    fs::write(&questions_file, questions()).unwrap();
    done(&[text_of(&questions_file), "--out", text_of(&file)], &["--data-dir", &place]);
    let whole: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    let with = |name: &str, value: Value| {
        let mut other = whole.clone();
        other[name] = value;
        other.to_string().into_bytes()
    };
    let new = directory.path().join("new");
    let flags = ["--listen", "127.0.0.1:0", "--data-dir", text_of(&new), "--calibration", text_of(&file)];
    let text = whole.to_string();
    for (bytes, expected) in [
        (Vec::new(), "expected what `multivac-api calibrate` writes"),
        (text.as_bytes()[..text.len() - 9].to_vec(), "expected what `multivac-api calibrate` writes"),
        (vec![0xff; 100], "expected what `multivac-api calibrate` writes"),
        (with("model", "0123456789abcdef".into()), "made for model 0123456789abcdef"),
        (with("version", 2.into()), "version 2"),
        (with("curve", json!([[0.1, 0.5], [0.2, 0.4]])), "not falling"),
        (with("curve", json!([[0.2, 0.4], [0.1, 0.5]])), "rising"),
        (with("curve", json!([])), "not pairs"),
        (with("min_confidence", 2.into()), "not from 0 to 1"),
        (with("more", 1.into()), "more"),
    ] {
        fs::write(&file, &bytes).unwrap();
        let said = refusal(&mut program(&flags));
        assert!(said.contains("curve.json: ") && said.contains(expected), "{expected}: {said}");
        // doctor says the same of the settings.
        let doctor = program(&[&["doctor"], &flags[..4]].concat()).env("MULTIVAC_CALIBRATION", text_of(&file)).output();
        assert!(String::from_utf8_lossy(&doctor.unwrap().stdout).contains(expected), "{expected}");
    }
    fs::remove_file(&file).unwrap();
    let said = refusal(&mut program(&flags));
    assert!(
        said.contains("MULTIVAC_CALIBRATION: ") && said.contains("curve.json cannot be read: No such file"),
        "{said}"
    );
    let said = refusal(&mut program(&[&flags[..], &["--min-precision", "0.9"]].concat()));
    assert!(said.contains("--calibration") && said.contains("--min-precision"), "{said}");
    assert!(!new.exists(), "nothing was left behind");
}
