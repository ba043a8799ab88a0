//! `multivac-api export --to` and `import --to`, on the real program, and their routes.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use multivac_testkit::backends::SharedServers;
use multivac_testkit::process::Process;
use multivac_testkit::proxy::{Mode, Proxy};
use multivac_testkit::wait;
use reqwest::{Client, Method};
use serde_json::Value;

use crate::program::{Program, program};
use crate::test_app::TestApp;

/// Runs the program; its status and what it said.
fn run(words: &[&str]) -> (Option<i32>, String) {
    let output = program(words).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.stdout.is_empty() && !said.contains("panicked"), "{words:?}: {said}");
    (output.status.code(), said)
}

fn done(words: &[&str]) -> String {
    let (code, said) = run(words);
    assert_eq!(code, Some(0), "{words:?}: {said}");
    said
}

fn refused(words: &[&str]) -> String {
    let (code, said) = run(words);
    assert_eq!(code, Some(1), "{words:?}: {said}");
    said
}

fn checksum(said: &str) -> String {
    said.split_once("sha256 ").unwrap_or_else(|| panic!("{said}")).1[..64].to_owned()
}

fn server(data: &Path) -> Program {
    Program::start(&["--data-dir", data.to_str().unwrap(), "--allow-backup-over-http"])
}

/// Feeds so many, and takes one of them back.
async fn fill(program: &Program, count: usize) {
    let client = Client::new();
    let lines: String =
        (0..count).map(|n| format!("{{\"data\": \"Star {n} went out. {}\"}}\n", "Dark. ".repeat(50))).collect();
    let bulk =
        client.post(format!("{}/multivac/data/bulk", program.base)).header("Content-Type", "application/x-ndjson");
    let fed: Value = bulk.body(lines).send().await.unwrap().json().await.unwrap();
    program.until(&client, "/multivac/stats", |stats| stats["learned"] == count).await;
    let first = fed["ids"][0].as_str().unwrap();
    let taken = client.delete(format!("{}/multivac/data/{first}", program.base)).send().await.unwrap();
    assert!(taken.status().is_success());
}

#[tokio::test(flavor = "multi_thread")]
async fn from_one_server_into_another_everything_is_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let first = server(&directory.path().join("first"));
    fill(&first, 3_000).await;
    let backup = at("backup.gz");
    let said = done(&["export", &backup, "--to", &first.base]);
    assert!(said.starts_with("2999 data and 1 tombstones in "), "{said}");
    let sum = checksum(&said);
    // The same as beside it; and the rules of its file are the same.
    let beside = done(&["export", &at("beside.gz"), "--data-dir", &at("first")]);
    assert_eq!(checksum(&beside), sum);
    assert!(refused(&["export", &backup, "--to", &first.base]).contains("exists: --force replaces it"));
    done(&["export", &backup, "--to", &first.base, "--force"]);
    fs::create_dir(directory.path().join("nightly")).unwrap();
    fs::write(directory.path().join("nightly/multivac-20200101T000000Z.ndjson.gz"), "old").unwrap();
    let said = done(&["export", "--directory", &at("nightly"), "--keep", "1", "--to", &first.base]);
    assert!(said.contains("removed ") && fs::read_dir(at("nightly")).unwrap().count() == 1, "{said}");
    let piped = program(&["export", "-", "--to", &first.base]).output().unwrap();
    assert!(piped.status.success());

    let second = server(&directory.path().join("second"));
    fill(&second, 10).await;
    let mut import = program(&["import", "-", "--to", &second.base]);
    fs::write(at("piped.gz"), piped.stdout).unwrap();
    let output = import.stdin(Stdio::from(fs::File::open(at("piped.gz")).unwrap())).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    assert!(said.contains("imported 2999 data and 1 tombstones; 0 of the data stay retracted"), "{said}");
    assert!(
        said.contains("the store holds 3008 data and 2 tombstones") && said.contains("the ledger agrees"),
        "{said}"
    );
    let client = Client::new();
    let stats = second.until(&client, "/multivac/stats", |stats| stats["passages"] == 3_008).await;
    assert_eq!((&stats["accepted"], &stats["retracted"]), (&3_010.into(), &2.into()));
    // It answers with it at once. The same again changes nothing.
    let asked = client.get(format!("{}/multivac", second.base)).query(&[("question", "Which star 77 went out?")]);
    assert!(asked.send().await.unwrap().text().await.unwrap().contains("77"));
    done(&["import", &backup, "--to", &second.base]);
    let empty = server(&directory.path().join("third"));
    done(&["import", &backup, "--to", &empty.base]);
    assert_eq!(checksum(&done(&["export", &at("third.gz"), "--to", &empty.base])), sum);
}

#[tokio::test(flavor = "multi_thread")]
async fn from_a_laptop_into_a_cluster() {
    let Some(shared) = SharedServers::find() else { return };
    let directory = tempfile::tempdir().unwrap();
    let backup = directory.path().join("backup.gz").to_str().unwrap().to_owned();
    let laptop = server(&directory.path().join("laptop"));
    fill(&laptop, 1_200).await;
    let sum = checksum(&done(&["export", &backup, "--to", &laptop.base]));
    let flags = shared.flags();
    let flags: Vec<&str> = flags.iter().map(String::as_str).chain(["--allow-backup-over-http"]).collect();
    let replica = Program::start(&flags);
    replica.until(&Client::new(), "/readyz", |ready| ready["ready"] == true).await;
    done(&["import", &backup, "--to", &replica.base]);
    let back = directory.path().join("back.gz").to_str().unwrap().to_owned();
    assert_eq!(checksum(&done(&["export", &back, "--to", &replica.base])), sum);
    drop(replica);
    shared.clean_up().await;
}

#[actix_web::test]
async fn where_it_is_not_allowed_it_is_refused() {
    let app = TestApp::start(&[]).await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("x").to_str().unwrap().to_owned();
    for (method, path) in [(Method::GET, "/multivac/export"), (Method::POST, "/multivac/import")] {
        let reply = app.request(method, path).send().await.unwrap();
        assert_eq!(
            (reply.status().as_u16(), &reply.headers()["content-type"]),
            (403, &"application/problem+json".parse().unwrap())
        );
        assert!(reply.text().await.unwrap().contains("--allow-backup-over-http"));
    }
    let base = app.base.clone();
    let said = tokio::task::spawn_blocking(move || refused(&["export", &file, "--to", &base])).await.unwrap();
    assert!(said.contains("403") && said.contains("--allow-backup-over-http"), "{said}");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0, "nothing is left behind");
    app.stop().await;
}

#[actix_web::test]
async fn what_is_no_whole_backup_changes_nothing() {
    let app = TestApp::start(&["--allow-backup-over-http"]).await;
    app.teach("Owls eat voles.").await;
    let whole = app.get("/multivac/export").await;
    assert_eq!(whole.headers()["content-type"], "application/gzip");
    let whole = whole.bytes().await.unwrap();
    let head = app.request(Method::HEAD, "/multivac/export").send().await.unwrap();
    assert_eq!((head.status().as_u16(), head.bytes().await.unwrap().len()), (200, 0));
    let post = |media: &'static str, body: Vec<u8>| {
        app.request(Method::POST, "/multivac/import").header("Content-Type", media).body(body).send()
    };
    for (body, why) in [
        (Vec::new(), "no backup"),
        (b"nothing".to_vec(), "no backup"),
        (whole[..whole.len() - 9].to_vec(), "cut off"),
        ([&whole[..], b"x"].concat(), "after its end"),
    ] {
        let reply = post("application/gzip", body).await.unwrap();
        assert_eq!(reply.status(), 400);
        let problem: Value = reply.json().await.unwrap();
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains(why) && detail.contains("nothing was changed"), "{why}: {detail}");
    }
    assert_eq!(post("application/x-ndjson", whole.to_vec()).await.unwrap().status(), 415);
    let reply: Value = post("application/octet-stream", whole.to_vec()).await.unwrap().json().await.unwrap();
    assert_eq!((&reply["data"], &reply["learned"], &reply["ledger_agrees"]), (&1.into(), &1.into(), &true.into()));
    let stats = app.json("/multivac/stats").await;
    assert_eq!((&stats["accepted"], &stats["learned"]), (&1.into(), &1.into()));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_that_breaks_off_leaves_no_file_and_frees_the_server() {
    let directory = tempfile::tempdir().unwrap();
    let first = server(&directory.path().join("first"));
    let (client, mut rng) = (Client::new(), fastrand::Rng::with_seed(7));
    // What cannot be packed, so that it does not fit into what is on the way.
    for _ in 0..20 {
        let noise: String = std::iter::repeat_with(|| rng.alphanumeric()).take(1 << 20).collect();
        let fed = client.post(format!("{}/multivac/data", first.base)).header("Content-Type", "text/plain").body(noise);
        assert_eq!(fed.send().await.unwrap().status(), 200);
    }
    first.until(&client, "/multivac/stats", |stats| stats["learned"] == 20).await;
    // One that takes nothing holds the only place there is, for as long as it is there.
    let held = client.get(format!("{}/multivac/export", first.base)).send().await.unwrap();
    assert_eq!(held.status(), 200);
    let busy = client.get(format!("{}/multivac/export", first.base)).send().await.unwrap();
    assert_eq!(busy.status(), 503);
    assert!(busy.headers().contains_key("retry-after"));
    drop((held, busy));
    // The next one waits for its place, and is cut off in the middle.
    let out = directory.path().join("out");
    fs::create_dir(&out).unwrap();
    let backup = out.join("backup.gz");
    let proxy = Proxy::start(first.base.trim_start_matches("http://").to_owned()).await;
    let through = format!("http://{}", proxy.address);
    let export = ["export", backup.to_str().unwrap(), "--to", &through];
    let exporting = Process::start(&mut program(&export));
    wait::until("a part is there", async || {
        let written = fs::read_dir(&out).unwrap().map(|file| file.unwrap().metadata().unwrap().len()).sum::<u64>();
        written > 1 << 20
    })
    .await;
    proxy.set(Mode::Cut);
    let end = exporting.ended().await;
    assert!(end.code == Some(1) || backup.exists(), "{end:?}");
    if end.code == Some(1) {
        assert!(end.stderr.contains("does not reply") || end.stderr.contains("cut off"), "{end:?}");
        assert_eq!(fs::read_dir(&out).unwrap().count(), 0, "it has no name before it is whole");
    }
    proxy.set(Mode::Pass);
    done(&[&export[..], &["--force"]].concat());
}
