//! `multivac-api feed`, on the real program.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use multivac_core::backup::read::Reader;
use multivac_core::store::StoreEntry;
use multivac_testkit::port::free_port;
use multivac_testkit::process::{Process, Service};
use multivac_testkit::proxy::{Mode, Proxy};
use multivac_testkit::wait;
use reqwest::Client;
use serde_json::Value;
use tempfile::TempDir;

use crate::program::{Program, program};

/// A place with files to feed, the data of a server, and the state of whoever feeds.
struct Desk {
    directory: TempDir,
}

/// How a `feed` ended.
struct Fed {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Fed {
    /// The object of --json.
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|_| panic!("{}{}", self.out, self.err))
    }

    /// (accepted, known, rejected).
    fn counts(&self) -> (u64, u64, u64) {
        let json = self.json();
        let count = |name: &str| json[name].as_u64().unwrap();
        (count("accepted"), count("known"), count("rejected_in_all"))
    }
}

impl Desk {
    fn new() -> Self {
        let desk = Self { directory: tempfile::tempdir().unwrap() };
        fs::create_dir(desk.path("notes")).unwrap();
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    /// So many files in folders of a hundred; their texts.
    fn fill(&self, count: usize) -> Vec<String> {
        let texts: Vec<String> = (0..count).map(|n| format!("Star number {n} went out in the year {n}.")).collect();
        for (n, text) in texts.iter().enumerate() {
            self.write(&format!("notes/{}/{n}.txt", n / 100), text);
        }
        texts
    }

    fn server(&self) -> Program {
        Program::start(&["--data-dir", self.path("data").to_str().unwrap()])
    }

    /// One that can be started again where it was.
    fn service(&self) -> (Service, String) {
        let address = format!("127.0.0.1:{}", free_port());
        let data = self.path("data");
        let line = [env!("CARGO_BIN_EXE_multivac-api"), "--listen", &address, "--data-dir", data.to_str().unwrap()];
        (Service::start("multivac-api", line, self.path("server.log")), format!("http://{address}"))
    }

    fn command(&self, words: &[&str], to: &str) -> Command {
        let mut command = program(&[&["feed"], words].concat());
        command.env("MULTIVAC_TO", to).env("XDG_STATE_HOME", self.path("state")).current_dir(self.directory.path());
        command
    }

    fn feed(&self, words: &[&str], to: &str) -> Fed {
        ran(&mut self.command(words, to))
    }

    /// How often each text is in the data directory, where no server runs.
    fn texts(&self) -> BTreeMap<String, usize> {
        let data = self.path("data");
        let output = program(&["export", "-", "--data-dir", data.to_str().unwrap()]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let mut reader = Reader::new(&*output.stdout).unwrap();
        let mut texts = BTreeMap::new();
        while let Some(entry) = reader.next_entry().unwrap() {
            let StoreEntry::Live(datum) = entry else { panic!("nothing was retracted") };
            *texts.entry(datum.text).or_default() += 1;
        }
        texts
    }
}

fn ran(command: &mut Command) -> Fed {
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let fed = Fed { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) };
    assert!(!fed.err.contains("panicked"), "{}", fed.err);
    fed
}

async fn stats(base: &str) -> Value {
    Client::new().get(format!("{base}/multivac/stats")).send().await.unwrap().json().await.unwrap()
}

async fn until_learned(base: &str, count: u64) {
    wait::until("all is learned", async || {
        let stats = stats(base).await;
        stats["learned"] == count && stats["queued"] == 0 && stats["processing"] == 0
    })
    .await;
}

fn once_each(texts: &[String]) -> BTreeMap<String, usize> {
    texts.iter().map(|text| (text.clone(), 1)).collect()
}

#[tokio::test]
async fn a_folder_is_fed_once_however_it_is_named() {
    let desk = Desk::new();
    desk.fill(250);
    let server = desk.server();
    let fed = desk.feed(&["notes", "--json"], &server.base);
    assert_eq!((fed.code, fed.counts(), fed.err.as_str()), (Some(0), (250, 0, 0), ""));
    let absolute = desk.path("notes");
    std::os::unix::fs::symlink(&absolute, desk.path("link")).unwrap();
    for name in ["./notes/", "notes/../notes", "link", absolute.to_str().unwrap(), "notes/1"] {
        let again = desk.feed(&[name, "--json"], &server.base);
        let expected = if name == "notes/1" { 100 } else { 250 };
        assert_eq!((again.code, again.counts()), (Some(0), (0, expected, 0)), "{name}");
    }
    let elsewhere = ran(desk.command(&[".", "--json"], &server.base).current_dir(&absolute));
    assert_eq!(elsewhere.counts(), (0, 250, 0));
    // What is new, and what is changed, is fed.
    desk.write("notes/new.txt", "Owls eat voles.");
    desk.write("notes/0/0.txt", "Penguins eat krill.");
    assert_eq!(desk.feed(&["notes", "--json"], &server.base).counts(), (2, 249, 0));
    let shown = desk.feed(&["notes"], &server.base);
    let lines: Vec<&str> = shown.out.lines().collect();
    assert_eq!(lines[..3], ["accepted                0", "known already         251", "rejected                0"]);
    assert!(lines[3].starts_with("251 files, "), "{lines:?}");
    assert_eq!(shown.err, "", "no bar without a terminal");
    let quiet = desk.feed(&["notes", "--quiet"], &server.base);
    assert_eq!((quiet.code, quiet.out.as_str(), quiet.err.as_str()), (Some(0), "", ""));
    until_learned(&server.base, 252).await;
}

#[tokio::test]
async fn every_kind_of_file_is_fed_or_named() {
    let desk = Desk::new();
    desk.write("notes/a.md", "# Owls\n\nOwls eat voles.");
    desk.write("notes/b.html", "<p>Penguins eat krill.</p>");
    desk.write("notes/c.csv", "name,food\nbat,moths\n");
    desk.write("notes/d.ndjson", "\u{feff}{\"data\":\"one\"}\n\n  \nnonsense\n{\"data\":\" \"}\n{\"data\":\"two\"}");
    desk.write("notes/e.JSONL", "{\"data\":\"three\",\"idempotency_key\":\"mine\"}\r\n{\"data\":\"four\"}\r\n");
    desk.write("notes/f.json", "{\"data\":\"five\"}\n{\"data\":\"six\"}\n");
    desk.write("notes/g.json", "{\n  \"a\": 1\n}\n");
    desk.write("notes/binary", b"\x7fELF\0\0");
    desk.write("notes/latin.txt", b"caf\xe9");
    desk.write("notes/utf16.txt", b"\xff\xfea\0b\0");
    desk.write("notes/empty.txt", "");
    desk.write("notes/blank.txt", " \n\t");
    desk.write("notes/.hidden", "hidden text");
    desk.write("notes/.git/config", "of git");
    desk.write("notes/sub/.svn/x", "of svn");
    desk.write("notes/mark.txt", "\u{feff}With a byte order mark.");
    fs::write(desk.path("notes").join(std::ffi::OsStr::from_bytes(b"n\xff\x1b[31m\n.txt")), "An odd name.").unwrap();
    assert!(Command::new("mkfifo").arg(desk.path("notes/fifo")).status().unwrap().success());
    let _socket = std::os::unix::net::UnixListener::bind(desk.path("notes/socket")).unwrap();
    std::os::unix::fs::symlink("..", desk.path("notes/sub/up")).unwrap();
    std::os::unix::fs::symlink(".", desk.path("notes/self")).unwrap();
    std::os::unix::fs::symlink("nowhere", desk.path("notes/broken")).unwrap();
    let server = desk.server();
    let fed = desk.feed(&["notes", "--json"], &server.base);
    let json = fed.json();
    assert_eq!((fed.code, fed.counts()), (Some(1), (12, 0, 2)), "{json}");
    let named = |list: &str| -> Vec<String> {
        let entries = json[list].as_array().unwrap().iter();
        entries.map(|entry| entry["file"].as_str().unwrap().trim_start_matches("notes/").to_owned()).collect()
    };
    let rejected = json["rejected"].as_array().unwrap();
    assert_eq!(rejected[0]["line"], 4);
    assert_eq!(
        rejected[1],
        serde_json::json!({"file": "notes/d.ndjson", "line": 5, "detail": "the datum is empty or only white space"})
    );
    assert_eq!(named("unreadable"), ["broken"]);
    let passed_over = named("passed_over");
    for name in ["binary", "latin.txt", "utf16.txt", "empty.txt", "blank.txt", "fifo", "socket", "self", "sub/up"] {
        assert!(passed_over.iter().any(|other| other == name), "{name}: {json}");
    }
    assert_eq!((passed_over.len(), &json["hidden"], &json["version_control"]), (9, &1.into(), &2.into()), "{json}");
    assert_eq!((&json["complete"], &json["error"]), (&true.into(), &Value::Null));
    let keys: Vec<&str> = json.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys.len(), 16, "{keys:?}");
    // The same for people: with the number of the line, and nothing that a terminal would obey.
    let shown = desk.feed(&["notes"], &server.base);
    assert!(shown.out.contains("\n  notes/d.ndjson:4: malformed JSON at column 2\n"), "{}", shown.out);
    assert!(shown.out.contains("left out: 1 hidden, 2 of version control"), "{}", shown.out);
    assert!(!shown.out.contains('\x1b'), "{}", shown.out);
    // What is named itself is not hidden; and what of it is not text is a fault.
    assert_eq!(desk.feed(&["notes/.hidden", "--json"], &server.base).counts(), (1, 0, 0));
    assert_eq!(desk.feed(&["notes", "--hidden", "--json"], &server.base).counts(), (0, 13, 2));
    assert_eq!(desk.feed(&["notes/binary"], &server.base).code, Some(1));
    assert_eq!(desk.feed(&["notes/sub"], &server.base).code, Some(1), "what lies behind `up` has faults");
    let missing = desk.feed(&["nowhere", "notes/a.md", "--json"], &server.base);
    assert_eq!((missing.code, missing.counts()), (Some(1), (0, 1, 0)));
    until_learned(&server.base, 13).await;
    drop(server);
    let texts = desk.texts();
    for text in ["An odd name.", "With a byte order mark.", "name,food\nbat,moths\n", "three", "six", "hidden text"] {
        assert_eq!(texts.get(text), Some(&1), "{text}: {texts:?}");
    }
}

#[tokio::test]
async fn a_text_over_the_limit_is_fed_in_parts_that_are_all_of_it() {
    let desk = Desk::new();
    let text: String = (0..3_000).map(|n| format!("Paragraph {n} of it.\nIts second line.\n\n")).collect();
    desk.write("notes/long.txt", &text);
    // A letter that is broken, and one NUL, behind the first part.
    desk.write("notes/broken.txt", [text.as_bytes(), b"\xc3"].concat());
    desk.write("notes/nul.txt", [text.as_bytes(), b"\0"].concat());
    let flags = ["--data-dir", desk.path("data").to_str().unwrap(), "--max-datum-size", "10KiB"].map(str::to_owned);
    let server = Program::start(&flags.each_ref().map(String::as_str));
    let fed = desk.feed(&["notes", "--max-datum-size", "10KiB", "--json"], &server.base);
    let json = fed.json();
    let parts = json["accepted"].as_u64().unwrap();
    assert!(parts >= text.len() as u64 / 10_240, "{json}");
    assert_eq!((fed.code, &json["passed_over_in_all"]), (Some(0), &2.into()), "{json}");
    assert_eq!(json["split"][0]["detail"], format!("fed in {parts} parts"));
    assert_eq!(desk.feed(&["notes", "--max-datum-size", "10KiB", "--json"], &server.base).counts(), (0, parts, 0));
    // Whoever does not know the server's limit is told, by the part, and not tried again.
    let refused = desk.feed(&["notes/long.txt", "--json"], &server.base);
    assert_eq!((refused.code, refused.counts()), (Some(1), (0, 0, 1)), "{}", refused.out);
    assert!(refused.out.contains("over the limit of 10240 bytes"), "{}", refused.out);
    until_learned(&server.base, parts).await;
    drop(server);
    let texts = desk.texts();
    assert_eq!(texts.keys().map(String::len).sum::<usize>(), text.len());
    assert!(texts.keys().all(|part| text.contains(part.as_str()) && part.ends_with("\n\n")));
}

#[tokio::test]
async fn the_standard_input_is_text_or_lines() {
    let desk = Desk::new();
    let server = desk.server();
    let pipe = |words: &[&str], input: &[u8]| {
        let mut command = desk.command(&[&["-", "--json"], words].concat(), &server.base);
        let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        let output = child.wait_with_output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Fed { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    };
    assert_eq!(pipe(&[], b"Stars go out.\nOne by one.").counts(), (1, 0, 0));
    assert_eq!(pipe(&[], b"{\"data\": \"a\"}\n{\"data\": \"b\"}\n").counts(), (2, 0, 0));
    assert_eq!(pipe(&[], b"{\"data\": \"b\"}\n{\"data\": \"c\"}\n").counts(), (1, 1, 0), "by its text");
    assert_eq!(pipe(&["--format", "text"], b"{\"data\": \"b\"}\n").counts(), (1, 0, 0));
    let bad = pipe(&["--format", "ndjson"], b"Stars go out.\n{\"data\": \"d\"}\n");
    assert_eq!(
        (bad.code, bad.counts(), &bad.json()["rejected"][0]["file"]),
        (Some(1), (1, 0, 1), &"the standard input".into())
    );
    for nothing in [&b""[..], b"\0", b"\xff"] {
        assert_eq!((pipe(&[], nothing).code, pipe(&[], nothing).counts()), (Some(1), (0, 0, 0)));
    }
    let long: String = (0..400_000).map(|n| format!("{n} ")).collect();
    assert_eq!(pipe(&[], long.as_bytes()).counts().0, 3);
}

#[tokio::test]
async fn what_trickles_in_is_sent_before_the_end() {
    let desk = Desk::new();
    let server = desk.server();
    let mut command = desk.command(&["-", "--format", "ndjson"], &server.base);
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(b"{\"data\": \"Owls eat voles.\"}\n").unwrap();
    until_learned(&server.base, 1).await;
    drop(input);
    assert!(child.wait().unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_half_way_again_and_again_nothing_is_twice_and_nothing_missing() {
    let desk = Desk::new();
    let mut texts = desk.fill(2_000);
    let lines: Vec<String> = (0..500).map(|n| format!("Line {n} of a file with many.")).collect();
    desk.write(
        "notes/lines.ndjson",
        lines.iter().map(|line| format!("{{\"data\": \"{line}\"}}\n")).collect::<String>(),
    );
    texts.extend(lines);
    let (mut server, base) = desk.service();
    let mut kills = 0;
    for round in 0.. {
        // Other batches each time: as many at once, and as fast, as it comes.
        let parallel = (1 + round % 7).to_string();
        let mut feeding = Process::start(&mut desk.command(&["notes", "--parallel", &parallel, "--json"], &base));
        tokio::time::sleep(Duration::from_millis(20 + 15 * round)).await;
        if round % 4 == 3 {
            server.kill();
            server.start_again();
        }
        if feeding.has_ended() {
            break;
        }
        feeding.kill();
        kills += 1;
    }
    assert!(kills > 2, "it was killed {kills} times");
    let last = desk.feed(&["notes", "--json"], &base);
    assert_eq!((last.code, last.counts().0 + last.counts().1), (Some(0), 2_500), "{}{}", last.out, last.err);
    until_learned(&base, 2_500).await;
    let stats = stats(&base).await;
    assert_eq!((&stats["accepted"], &stats["dead"]), (&2_500.into(), &0.into()));
    server.stop();
    assert_eq!(desk.texts(), once_each(&texts));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_comes_and_goes_gets_all_of_it_once() {
    let desk = Desk::new();
    let texts = desk.fill(1_500);
    let (mut server, base) = desk.service();
    let mut feeding = Process::start(desk.command(&["notes", "--parallel", "2"], &base).stdout(Stdio::null()));
    let mut restarts = 0;
    while !feeding.has_ended() && restarts < 3 {
        tokio::time::sleep(Duration::from_millis(60)).await;
        server.kill();
        tokio::time::sleep(Duration::from_millis(300)).await;
        server.start_again();
        restarts += 1;
    }
    let end = feeding.ended().await;
    assert_eq!(end.code, Some(0), "{end:?}");
    until_learned(&base, 1_500).await;
    server.stop();
    assert_eq!(desk.texts(), once_each(&texts));
}

#[tokio::test(flavor = "multi_thread")]
async fn replies_that_are_lost_or_never_come_make_nothing_twice() {
    let desk = Desk::new();
    let texts = desk.fill(300);
    let server = desk.server();
    let address = server.base.trim_start_matches("http://").to_owned();
    let dropping = Proxy::start_dropping_replies(address.clone(), "/multivac/data/bulk", 3).await;
    let fed = desk.feed(&["notes", "--json"], &format!("http://{}", dropping.address));
    assert_eq!((fed.code, fed.counts().0 + fed.counts().1), (Some(0), 300), "{}", fed.err);
    // A server that takes the request and says nothing.
    let stalling = Proxy::start(address).await;
    stalling.set(Mode::Stall);
    desk.write("notes/last.txt", "The last one.");
    let to = format!("http://{}", stalling.address);
    let mut feeding = Process::start(desk.command(&["notes", "--request-timeout", "300ms"], &to).stdout(Stdio::null()));
    feeding.wait_for_log("no reply in time; trying again for 2m");
    stalling.set(Mode::Pass);
    assert!(!feeding.has_ended());
    let end = feeding.ended().await;
    assert!(end.code == Some(0) && end.stderr.contains("replies again"), "{end:?}");
    until_learned(&server.base, 301).await;
    drop(server);
    assert_eq!(desk.texts(), once_each(&[&texts[..], &["The last one.".to_owned()]].concat()));
}

#[tokio::test]
async fn a_full_queue_is_waited_for_as_long_as_it_says() {
    let desk = Desk::new();
    let texts = desk.fill(150);
    let data = desk.path("data");
    let server = Program::start(&["--data-dir", data.to_str().unwrap(), "--max-queued", "50"]);
    let fed = desk.feed(&["notes"], &server.base);
    assert_eq!(fed.code, Some(0), "{}", fed.err);
    assert!(fed.err.contains("the queue is full") && fed.err.contains("trying again"), "{}", fed.err);
    assert!(fed.out.starts_with("accepted              150\nknown already           0\n"), "{}", fed.out);
    until_learned(&server.base, 150).await;
    drop(server);
    assert_eq!(desk.texts(), once_each(&texts));
}

#[tokio::test]
async fn what_was_fed_before_the_server_forgot_its_keys_is_not_fed_again() {
    let desk = Desk::new();
    let texts = desk.fill(120);
    let (mut server, base) = desk.service();
    assert_eq!(desk.feed(&["notes", "--json"], &base).counts(), (120, 0, 0));
    until_learned(&base, 120).await;
    server.stop();
    // A backup has the data with their ids, and no keys.
    let (data, backup) = (desk.path("data"), desk.path("backup.gz"));
    let flags = ["--data-dir", data.to_str().unwrap()];
    assert!(program(&[&["export", backup.to_str().unwrap()], &flags[..]].concat()).status().unwrap().success());
    fs::remove_dir_all(&data).unwrap();
    assert!(program(&[&["import", backup.to_str().unwrap()], &flags[..]].concat()).status().unwrap().success());
    let record = rusqlite::Connection::open(desk.path("state/multivac/fed.db")).unwrap();
    assert_eq!(record.execute("UPDATE fed SET at = at - 2 * 86400", []).unwrap(), 120);
    server.start_again();
    wait::until("it listens", async || Client::new().get(format!("{base}/healthz")).send().await.is_ok()).await;
    desk.write("notes/new.txt", "Something new.");
    assert_eq!(desk.feed(&["notes", "--json"], &base).counts(), (1, 120, 0));
    until_learned(&base, 121).await;
    server.stop();
    assert_eq!(desk.texts(), once_each(&[&texts[..], &["Something new.".to_owned()]].concat()));
    // Another server's data are not there because the record says that they are somewhere.
    fs::remove_dir_all(&data).unwrap();
    server.start_again();
    wait::until("it listens", async || Client::new().get(format!("{base}/healthz")).send().await.is_ok()).await;
    assert_eq!(desk.feed(&["notes", "--json"], &base).counts(), (121, 0, 0));
}

#[tokio::test]
async fn a_server_that_is_not_there_is_told_and_given_up() {
    let desk = Desk::new();
    desk.fill(3);
    let nobody = format!("http://127.0.0.1:{}", free_port());
    let fed = desk.feed(&["notes", "--away-timeout", "600ms", "--json"], &nobody);
    let json = fed.json();
    assert_eq!((fed.code, fed.counts(), &json["complete"]), (Some(3), (0, 0, 0), &false.into()));
    assert!(json["error"].as_str().unwrap().contains("Connection refused"), "{json}");
    assert!(fed.err.contains("not all was fed"), "{}", fed.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupt_ends_what_is_under_way_and_tells_how_to_go_on() {
    let desk = Desk::new();
    desk.fill(300);
    let nobody = format!("http://127.0.0.1:{}", free_port());
    let feeding = Process::start(&mut desk.command(&["notes"], &nobody));
    feeding.wait_for_log("trying again");
    feeding.signal("INT");
    let end = feeding.ended().await;
    assert_eq!(end.code, Some(130), "{end:?}");
    assert!(end.stderr.contains("the same command again goes on"), "{end:?}");
    // From a standard input that nobody ends, too.
    let server = desk.server();
    let mut command = desk.command(&["-"], &server.base);
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(b"{\"data\": \"Owls eat voles.\"}\n").unwrap();
    until_learned(&server.base, 1).await;
    assert!(Command::new("kill").args(["-s", "INT", &child.id().to_string()]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    drop(input);
}

#[tokio::test]
async fn command_lines_that_make_no_sense_end_with_2_and_show_no_password() {
    let desk = Desk::new();
    desk.fill(1);
    let secret = "s3cret-and-long";
    let file = desk.write("password", format!("{secret}\n"));
    let netrc = desk.write("netrc", format!("machine 127.0.0.1 login susan password {secret}\nbroken {secret}\n"));
    let pem = desk.write("not.pem", "nothing");
    let run = |to: &str, words: &[&str], variables: &[(&str, &Path)]| {
        let mut command = desk.command(&[&["notes"], words].concat(), to);
        command.envs(variables.iter().copied());
        let fed = ran(&mut command);
        assert_eq!(fed.code, Some(2), "{to} {words:?}: {}", fed.err);
        assert!(!(fed.out + &fed.err).contains("s3cret"), "{to} {words:?}: {}", fed.err);
        fed.err
    };
    let with_password = format!("https://susan:{secret}@localhost");
    assert!(run(&with_password, &[], &[]).contains("MULTIVAC_PASSWORD_FILE"));
    assert!(run("ftp://localhost", &[], &[]).contains("expected a URL"));
    assert!(
        run("http://192.0.2.1", &["--user", "susan"], &[("MULTIVAC_PASSWORD_FILE", &file)])
            .contains("--password-over-http")
    );
    assert!(run("http://127.0.0.1:1", &["--user", "susan"], &[]).contains("no password of susan"));
    for port in ["http://127.0.0.1:50000000", "http://127.0.0.1:5OOO", "http://[::1]:x", "http://localhost:0"] {
        assert!(run(port, &[], &[]).contains("expected a URL"), "{port}");
    }
    // One that cannot be read matters only to who needs a password.
    assert!(run("http://127.0.0.1:1", &["--user", "susan"], &[("NETRC", &netrc)]).contains("line 2"));
    assert!(run("https://127.0.0.1:1", &["--ca-file", pem.to_str().unwrap()], &[]).contains("certificates"));
    assert!(run("https://127.0.0.1:1", &["--ca-file", "/nowhere"], &[]).contains("No such file"));
    assert!(run("http://127.0.0.1:1", &["--parallel", "0"], &[]).contains("--parallel"));
    let none = ran(&mut program(&["feed"]));
    assert_eq!(none.code, Some(2), "{}", none.err);
}

#[tokio::test]
async fn files_that_change_or_cannot_be_read_are_told_and_the_others_fed() {
    let desk = Desk::new();
    desk.fill(10);
    let server = desk.server();
    // The kernel counts its reads, so it is another one each time; and its length is told as nothing.
    let fed = desk.feed(&["notes", "/proc/self/status", "/proc/self/mem", "--json"], &server.base);
    assert_eq!(fed.counts().0, 11, "{}", fed.out);
    assert_eq!(
        (fed.code, fed.json()["unreadable"][0]["file"].as_str()),
        (Some(1), Some("/proc/self/mem")),
        "{}",
        fed.out
    );
    // One that grows for as long as it is looked at.
    let path = desk.write("growing.txt", "It grows. ");
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let writing = std::thread::spawn(move || {
        let mut file = File::options().append(true).open(path).unwrap();
        while stopped.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
            file.write_all(&[b'x'; 64]).unwrap();
            file.set_len(20).unwrap();
        }
    });
    let growing = desk.feed(&["growing.txt", "--json"], &server.base);
    drop(stop);
    writing.join().unwrap();
    let json = growing.json();
    assert!(json["accepted"] == 1 || json["unreadable"][0]["detail"] == "it changes while it is read", "{json}");
}
