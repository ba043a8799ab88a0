//! The files of the embedded system and of the index: who may read them, and what happens when they are damaged or removed.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use multivac_testkit::process::{Process, refusal};
use multivac_testkit::wait::until;
use reqwest::Client;
use rusqlite::Connection;
use serde_json::Value;

use crate::program::{Program, base_of, wrapped_program};

/// The program with directories of its own for its data and for temporary files.
struct System {
    place: tempfile::TempDir,
    client: Client,
}

impl System {
    fn new() -> Self {
        let place = tempfile::tempdir().unwrap();
        fs::create_dir(place.path().join("temporary")).unwrap();
        Self { place, client: Client::new() }
    }

    fn data(&self) -> PathBuf {
        self.place.path().join("data")
    }

    fn temporary(&self) -> PathBuf {
        self.place.path().join("temporary")
    }

    /// Starts it with a umask that takes nothing away.
    fn start(&self) -> Program {
        let data = self.data();
        let flags = ["--listen", "127.0.0.1:0", "--log-format", "text", "--data-dir", data.to_str().unwrap()];
        let mut command = wrapped_program(&["sh", "-c", "umask 0; exec \"$@\"", "sh"], &flags);
        Program::spawn(command.env("TMPDIR", self.temporary()))
    }

    async fn feed(&self, program: &Program, text: &str) -> String {
        let feeding = self.client.post(format!("{}/multivac/data", program.base)).form(&[("data", text)]);
        let reply: Value = feeding.send().await.unwrap().json().await.unwrap();
        let id = reply["id"].as_str().unwrap().to_owned();
        program.until(&self.client, &format!("/multivac/data/{id}"), |datum| datum["status"] == "processed").await;
        id
    }

    async fn ask(&self, program: &Program, question: &str) -> String {
        let asking = self.client.get(format!("{}/multivac", program.base)).query(&[("question", question)]);
        asking.send().await.unwrap().text().await.unwrap()
    }

    /// The directories of indexes.
    fn indexes(&self) -> Vec<PathBuf> {
        fs::read_dir(self.temporary()).unwrap().map(|entry| entry.unwrap().path()).collect()
    }
}

/// Everything below a directory that others than its owner may use.
fn open_to_others(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap().map(|entry| entry.unwrap()) {
        let mode = entry.metadata().unwrap().permissions().mode();
        if mode & 0o077 != 0 {
            found.push(entry.path());
        }
        if entry.path().is_dir() {
            found.extend(open_to_others(&entry.path()));
        }
    }
    found
}

#[tokio::test]
async fn no_other_user_may_read_what_was_fed() {
    let system = System::new();
    let program = system.start();
    system.feed(&program, "Penguins eat krill and small fish.").await;
    assert_eq!(open_to_others(system.place.path()), [system.temporary()], "that one the test has made");
    // What an earlier version made is restricted when it is opened.
    program.kill();
    for path in [system.data(), system.data().join("multivac.db"), system.data().join("multivac.db-wal")] {
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let program = system.start();
    assert_eq!(open_to_others(system.place.path()), [system.temporary()]);
    assert!(program.logs().contains("now its owner alone can"), "{}", program.logs());
    program.until(&system.client, "/readyz", |ready| ready["ready"] == true).await;
    assert_eq!(system.ask(&program, "What do penguins eat?").await, "Penguins eat krill and small fish.");
}

#[tokio::test]
async fn one_unreadable_row_does_not_keep_the_rest_from_being_answered() {
    let system = System::new();
    let program = system.start();
    let lost = system.feed(&program, "Cats eat mice and sparrows.").await;
    system.feed(&program, "Penguins eat krill and small fish.").await;
    program.process.signal("TERM");
    assert_eq!(program.ended().await.code, Some(0));
    let file = Connection::open(system.data().join("multivac.db")).unwrap();
    let changed = file.execute("UPDATE datum SET text = CAST(x'43ff' AS TEXT) WHERE text LIKE 'Cats%'", []).unwrap();
    assert_eq!(changed, 1);
    drop(file);

    let program = system.start();
    let named = format!("1 row of multivac.db cannot be read: row 1 of the table datum (datum {lost})");
    let ready = program.until(&system.client, "/readyz", |ready| ready["ready"] == true).await;
    assert!(ready["missing"][0].as_str().unwrap().starts_with(&named), "{ready}");
    assert_eq!(system.ask(&program, "What do penguins eat?").await, "Penguins eat krill and small fish.");
    assert!(program.logs().contains(&format!("row 1 of the table datum (datum {lost})")), "{}", program.logs());
    // It is counted, and its status says that it is no more.
    let stats = program.until(&system.client, "/multivac/stats", |_| true).await;
    assert_eq!((&stats["accepted"], &stats["learned"], &stats["dead"]), (&2.into(), &1.into(), &1.into()), "{stats}");
    let status = program.until(&system.client, &format!("/multivac/data/{lost}"), |_| true).await;
    assert!(status["status"] == "failed" && status["received_at"].is_string(), "{status}");
    // What is fed is learned, and the exit status tells.
    system.feed(&program, "Owls eat voles.").await;
    program.process.signal("TERM");
    let exit = program.ended().await;
    assert_eq!(exit.code, Some(1));
    assert!(exit.stderr.contains(&format!("multivac-api: {named}")), "{}", exit.stderr);

    // Once it is retracted, nothing is amiss.
    let program = system.start();
    program.until(&system.client, "/readyz", |ready| ready["ready"] == true).await;
    let retracting = system.client.delete(format!("{}/multivac/data/{lost}", program.base));
    assert_eq!(retracting.send().await.unwrap().status(), 204);
    program.until(&system.client, "/readyz", |ready| ready["missing"].as_array().is_some_and(Vec::is_empty)).await;
    let stats = program.until(&system.client, "/multivac/stats", |_| true).await;
    assert_eq!((&stats["learned"], &stats["retracted"], &stats["dead"]), (&2.into(), &1.into(), &0.into()), "{stats}");
    program.process.signal("TERM");
    assert_eq!(program.ended().await.code, Some(0));
}

#[tokio::test]
async fn an_index_that_is_removed_under_the_program_is_made_again() {
    let system = System::new();
    let program = system.start();
    system.feed(&program, "Penguins eat krill and small fish.").await;
    let before = system.indexes();
    assert_eq!(before.len(), 1);
    // With the whole directory for temporary files.
    fs::remove_dir_all(system.temporary()).unwrap();
    assert_eq!(system.ask(&program, "What do penguins eat?").await, "Penguins eat krill and small fish.");
    // Without anything being fed.
    until("there is another", async || system.temporary().exists() && system.indexes().len() == 1).await;
    assert_ne!(system.indexes(), before);
    program.until(&system.client, "/readyz", |ready| ready["missing"].as_array().is_some_and(Vec::is_empty)).await;
    assert_eq!(system.ask(&program, "What do penguins eat?").await, "Penguins eat krill and small fish.");
    fs::remove_dir_all(&system.indexes()[0]).unwrap();
    system.feed(&program, "Owls eat voles.").await;
    assert_eq!(system.ask(&program, "What do owls eat?").await, "Owls eat voles.");
    // It was answered with from memory, so that its directory is gone may have been noticed later.
    let logged = || program.logs().matches("loading all into a new one").count();
    until("it is made again", async || logged() == 2).await;
    program.until(&system.client, "/readyz", |ready| ready["missing"].as_array().is_some_and(Vec::is_empty)).await;
    assert_eq!(system.ask(&program, "What do owls eat?").await, "Owls eat voles.");
    assert_eq!(logged(), 2, "{}", program.logs());
}

#[tokio::test]
async fn what_killed_processes_left_is_swept_and_what_others_use_is_not() {
    let system = System::new();
    for _ in 0..3 {
        let killed = system.start();
        system.feed(&killed, "Penguins eat krill and small fish.").await;
        killed.kill();
        assert_eq!(system.indexes().len(), 1, "each has removed what was left before it");
    }
    let first = system.start();
    let of_first = system.indexes();
    assert_eq!(of_first.len(), 1);
    // Another system of the same user, with the same directory for temporary files.
    let data = tempfile::tempdir().unwrap();
    let flags = ["--listen", "127.0.0.1:0", "--log-format", "text", "--data-dir", data.path().to_str().unwrap()];
    let mut second = Process::start(wrapped_program(&[], &flags).env("TMPDIR", system.temporary()));
    base_of(&mut second);
    assert_eq!(system.indexes().len(), 2);
    assert!(of_first[0].join("meta.json").exists());
    first.until(&system.client, "/readyz", |ready| ready["ready"] == true).await;
    assert_eq!(system.ask(&first, "What do penguins eat?").await, "Penguins eat krill and small fish.");
    first.process.signal("TERM");
    assert_eq!(first.ended().await.code, Some(0));
    assert_eq!(system.indexes().len(), 1, "a process that ends removes its own");
}

#[tokio::test]
async fn an_index_directory_is_kept_over_restarts_and_never_shared() {
    let system = System::new();
    let kept = system.place.path().join("index");
    let flags =
        ["--data-dir", system.data().to_str().unwrap(), "--index-dir", kept.to_str().unwrap()].map(str::to_owned);
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let mut program = Program::start(&flags);
    let id = system.feed(&program, "Entropy was reversed by a kettle.").await;
    program.until(&system.client, "/readyz", |ready| ready["ready"] == true).await;
    assert!(open_to_others(&kept).is_empty());
    let manifest = || fs::read_to_string(kept.join("multivac-index.json")).unwrap();
    let before = manifest();

    // Another one, also beside one that is suspended.
    program.process.signal("STOP");
    let other = system.place.path().join("other");
    let flags_of_other = ["--listen", "127.0.0.1:0", "--data-dir", other.to_str().unwrap()];
    let said = refusal(&mut crate::program::program(&[&flags_of_other, &flags[2..]].concat()));
    let holder = format!("is in use by process {}", program.process.id());
    assert!(said.contains(&holder) && said.contains("replicas cannot share one"), "{said}");
    // Nor where somebody has taken its lock for a leftover.
    fs::remove_file(kept.join("multivac-index.lock")).unwrap();
    let said = refusal(&mut crate::program::program(&[&flags_of_other, &flags[2..]].concat()));
    assert!(said.contains("is in use by another process"), "{said}");
    program.process.signal("CONT");

    program.process.kill();
    let mut program = Program::start(&flags);
    program.until(&system.client, "/readyz", |ready| ready["ready"] == true).await;
    assert_eq!(system.ask(&program, "What was reversed?").await, "Entropy was reversed by a kettle.");
    assert_eq!(manifest(), before, "it is the same one");
    assert!(program.logs().contains("goes on with the index that was kept"), "{}", program.logs());
    // Somebody removes it, and it is made again in the same place.
    fs::remove_dir_all(&kept).unwrap();
    program.process.wait_for_log("loading all into a new one");
    until("it is there again", async || kept.join("multivac-index.json").exists()).await;
    let deleted = system.client.delete(format!("{}/multivac/data/{id}", program.base)).send().await.unwrap();
    assert!(deleted.status().is_success());
    assert_ne!(system.ask(&program, "What was reversed?").await, "Entropy was reversed by a kettle.");
    program.process.kill();

    fs::create_dir(system.place.path().join("pictures")).unwrap();
    fs::write(system.place.path().join("pictures/cat.png"), "a cat").unwrap();
    let pictures = system.place.path().join("pictures");
    let flags = ["--listen", "127.0.0.1:0", "--data-dir", other.to_str().unwrap(), "--index-dir"];
    let said = refusal(&mut crate::program::program(&[&flags[..], &[pictures.to_str().unwrap()]].concat()));
    assert!(said.contains("holds cat.png, which is not MultiVAC's"), "{said}");
}

#[tokio::test]
async fn while_its_index_is_read_it_serves_and_can_be_stopped() {
    let system = System::new();
    let program = system.start();
    let penguins = system.feed(&program, "Penguins eat krill and small fish.").await;
    system.feed(&program, "Seals eat squid.").await;
    program.kill();
    let (data, kept) = (system.data(), system.place.path().join("index"));
    let flags = ["--data-dir", data.to_str().unwrap(), "--index-dir", kept.to_str().unwrap()];
    let program = Program::start(&flags);
    program.until(&system.client, "/readyz", |ready| ready["ready"] == true).await;
    program.process.signal("TERM");
    assert_eq!(program.ended().await.code, Some(0));
    let all = |path: &Path| fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>();
    let is_of_a_segment = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "store");
    let mut found = all(&kept).into_iter().filter(|path| path.is_dir()).flat_map(|path| all(&path));
    let (segment, aside) = (found.find(is_of_a_segment).unwrap(), system.place.path().join("aside"));
    // A disk that takes for ever: nobody writes into the pipe that is read.
    fs::rename(&segment, &aside).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&segment).status().unwrap().success());

    let program = Program::start(&flags);
    let ready = program.until(&system.client, "/readyz", |ready| ready.to_string().contains("being checked")).await;
    assert_eq!(ready["ready"], false, "{ready}");
    let alive = system.client.get(format!("{}/healthz", program.base)).send().await.unwrap();
    assert_eq!(alive.status(), 200);
    let feeding = system.client.post(format!("{}/multivac/data", program.base)).form(&[("data", "Owls eat voles.")]);
    assert_eq!(feeding.send().await.unwrap().status(), 200);
    // Nothing of the index is visible, so nobody waits for it.
    let retracting = system.client.delete(format!("{}/multivac/data/{penguins}", program.base));
    assert_eq!(retracting.send().await.unwrap().status(), 204);
    program.process.signal("TERM");
    assert_eq!(program.ended().await.code, Some(0));

    fs::rename(&aside, &segment).unwrap();
    let program = Program::start(&flags);
    program.until(&system.client, "/readyz", |ready| ready["ready"] == true).await;
    assert!(program.logs().contains("goes on with the index that was kept"), "{}", program.logs());
    assert_eq!(system.ask(&program, "What do seals eat?").await, "Seals eat squid.");
    assert!(system.ask(&program, "What do penguins eat?").await.starts_with("INSUFFICIENT DATA"));
}

#[tokio::test]
async fn an_index_directory_that_was_removed_and_is_another_s_now_is_left_to_it() {
    let system = System::new();
    let kept = system.place.path().join("index");
    let start = |data: &Path| {
        let flags = ["--listen", "127.0.0.1:0", "--log-format", "text", "--data-dir", data.to_str().unwrap()];
        let kept = ["--index-dir", kept.to_str().unwrap()];
        Program::spawn(crate::program::program(&[&flags[..], &kept].concat()).env("TMPDIR", system.temporary()))
    };
    let first = start(&system.data());
    system.feed(&first, "Penguins eat krill and small fish.").await;
    // So that it does not notice before the other is there.
    first.process.signal("STOP");
    fs::remove_dir_all(&kept).unwrap();
    let second = start(&system.place.path().join("other"));
    second.until(&system.client, "/readyz", |ready| ready["ready"] == true).await;
    let manifest = || fs::read_to_string(kept.join("multivac-index.json")).unwrap();
    let of_second = manifest();
    first.process.signal("CONT");
    first.process.wait_for_log("is another's now");
    let holder = format!("is in use by process {}", second.process.id());
    assert!(first.logs().contains(&holder), "{}", first.logs());
    first.until(&system.client, "/readyz", |ready| ready["missing"].as_array().is_some_and(Vec::is_empty)).await;
    assert_eq!(system.ask(&first, "What do penguins eat?").await, "Penguins eat krill and small fish.");
    system.feed(&second, "Owls eat voles.").await;
    assert_eq!(system.ask(&second, "What do owls eat?").await, "Owls eat voles.");
    assert_eq!((manifest(), system.indexes().len()), (of_second, 1));
}
