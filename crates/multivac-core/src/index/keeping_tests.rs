#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;

use fastrand::Rng;
use futures_util::TryStreamExt;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::super::follow::Follower;
use super::*;
use crate::adapters::embedded::Embedded;
use crate::datum::{DatumId, Timestamp};
use crate::index::term;
use crate::queue::QueueSettings;
use crate::runtime::retry::Retry;
use crate::store::{Change, Store, StoredDatum};

/// Words of the data; a question for each of them is asked.
const WORDS: [&str; 8] = ["entropy", "starlight", "kettle", "lantern", "harbour", "winter", "engine", "baker"];

/// A store and an index directory that outlive what uses them.
struct Place {
    directory: TempDir,
}

impl Place {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    fn index(&self) -> PathBuf {
        self.directory.path().join("index")
    }

    fn store(&self) -> Arc<dyn Store> {
        Embedded::open(&self.data(), QueueSettings::default()).unwrap().store()
    }

    /// Which index is the present one.
    fn name(&self) -> String {
        let manifest: serde_json::Value =
            serde_json::from_slice(&fs::read(self.index().join("multivac-index.json")).unwrap()).unwrap();
        manifest["name"].as_str().unwrap().to_owned()
    }

    fn files(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.index().join(format!("index-{}", self.name()))).unwrap();
        let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files
    }
}

/// A follower that runs.
struct Running {
    index: Arc<Index>,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Running {
    /// Follows until all that is in the store is in the index.
    async fn start(store: &Arc<dyn Store>, index: Index) -> Self {
        let (index, stop) = (Arc::new(index), CancellationToken::new());
        let follower = Follower::new(Arc::clone(store), Arc::clone(&index), DatumId::generate().to_string());
        let mut progress = follower.progress();
        let task = tokio::spawn({
            let stop = stop.clone();
            async move { follower.run(stop).await }
        });
        let goal = store.position().await.unwrap();
        progress.wait_for(|progress| progress.caught_up && progress.position >= goal).await.unwrap();
        Self { index, stop, task }
    }

    /// Has all that is in memory moved into segments.
    async fn move_all(&self) {
        let index = Arc::clone(&self.index);
        tokio::task::spawn_blocking(move || index.move_fresh().and_then(|()| index.stamp())).await.unwrap().unwrap();
    }

    async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap();
        // Its writer's threads end with it, and the lock.
        drop(Arc::into_inner(self.index).expect("nobody else has it"));
    }
}

fn datum(random: &mut Rng) -> StoredDatum {
    // So few that many passages are said by several.
    let passages = (0..random.usize(0..3)).map(|_| {
        let [one, two] = [(); 2].map(|()| WORDS[random.usize(..WORDS.len())]);
        format!("The {one} was near the {two}.")
    });
    let passages: Vec<String> = passages.collect();
    let now = Timestamp::now();
    let (text, id) = (passages.join("\n\n"), DatumId::generate());
    StoredDatum { id, text, passages, received_at: now, processed_at: now, trace: None }
}

async fn feed(store: &dyn Store, random: &mut Rng, count: usize) -> Vec<StoredDatum> {
    let data: Vec<StoredDatum> = (0..count).map(|_| datum(random)).collect();
    store.put(&data).await.unwrap();
    data
}

/// All that can be told of an index from outside.
#[derive(Debug, PartialEq)]
struct Holdings {
    data: BTreeSet<DatumId>,
    counts: [u64; 4],
    /// The passages that each word finds. Without their scores, into which those count that were removed a moment ago.
    found: Vec<BTreeSet<String>>,
}

fn holdings(index: &Index) -> Holdings {
    let snapshot = index.snapshot();
    let found = WORDS.iter().map(|word| {
        let term = snapshot.look_up(&term(word)).unwrap();
        let hits = snapshot.search(&[&term], 1_000).unwrap();
        hits.into_iter().map(|hit| hit.passage).collect()
    });
    Holdings {
        found: found.collect(),
        data: index.visible.read().unwrap().iter().collect(),
        counts: [snapshot.learned, snapshot.passages, snapshot.distinct_passages, snapshot.tokens],
    }
}

/// What an index would hold that is made of the store now.
async fn fresh(store: &dyn Store) -> Holdings {
    let data: Vec<StoredDatum> = store.scan().try_concat().await.unwrap();
    let index = Index::new().unwrap();
    index.apply(&data.into_iter().map(|datum| Change::Put(Box::new(datum))).collect::<Vec<_>>()).unwrap();
    holdings(&index)
}

/// Opens the kept index, has it catch up, and compares it with a fresh one.
async fn open_and_compare(place: &Place) -> Running {
    let store = place.store();
    let running = Running::start(&store, Index::kept_in(&place.index()).unwrap()).await;
    let (kept, fresh) = (holdings(&running.index), fresh(&*store).await);
    assert!(kept == fresh, "kept: {kept:?}\nfresh: {fresh:?}");
    running
}

/// A place with an index that was filled, moved and stopped; and what was fed.
async fn filled(seed: u64) -> (Place, Vec<StoredDatum>) {
    let (place, mut random) = (Place::new(), Rng::with_seed(seed));
    let store = place.store();
    let mut data = feed(&*store, &mut random, 50).await;
    let running = Running::start(&store, Index::kept_in(&place.index()).unwrap()).await;
    data.extend(feed(&*store, &mut random, 50).await);
    for datum in data.iter().step_by(7) {
        store.retract(datum.id).await.unwrap();
    }
    running.index.generations().wait_for(|_| running.index.snapshot().learned == 85).await.unwrap();
    running.move_all().await;
    running.stop().await;
    (place, data)
}

#[tokio::test]
async fn an_index_is_found_again_and_catches_up() {
    let (place, data) = filled(1).await;
    let name = place.name();
    open_and_compare(&place).await.stop().await;
    // While nobody follows.
    let store = place.store();
    store.retract(data[1].id).await.unwrap();
    feed(&*store, &mut Rng::with_seed(2), 9).await;
    drop(store);
    let running = open_and_compare(&place).await;
    assert!(!running.index.contains(data[1].id));
    running.move_all().await;
    running.stop().await;
    open_and_compare(&place).await.stop().await;
    assert_eq!(place.name(), name, "it was not made anew");
}

#[tokio::test]
async fn nothing_of_it_is_visible_before_it_was_compared_with_the_store() {
    let (place, _) = filled(3).await;
    let index = Index::kept_in(&place.index()).unwrap();
    assert!(index.is_unread() && index.found().is_none());
    index.open_found(&CancellationToken::new()).unwrap();
    assert_eq!((index.snapshot().learned, index.found().is_some()), (0, true));
    assert!(holdings(&index).found.iter().all(BTreeSet::is_empty));
}

#[tokio::test]
async fn stopped_while_it_is_read_it_is_as_it_was() {
    let (place, _) = filled(11).await;
    let (name, index) = (place.name(), Index::kept_in(&place.index()).unwrap());
    let stop = CancellationToken::new();
    stop.cancel();
    let began = Files::open(index.place.kept().unwrap(), &stop).err();
    assert_eq!(began, Some(WhyNot::Stopped));
    index.open_found(&stop).unwrap();
    assert!(index.is_unread());
    drop(index);
    open_and_compare(&place).await.stop().await;
    assert_eq!(place.name(), name);
}

#[test]
fn nothing_is_loaded_before_there_is_a_directory_for_it() {
    let place = Place::new();
    let index = Index::kept_in(&place.index()).unwrap();
    index.open_found(&CancellationToken::new()).unwrap();
    fs::remove_dir_all(place.index()).unwrap();
    fs::write(place.index(), "in its place").unwrap();
    for _ in 0..2 {
        assert!(index.begin_loading().is_err());
    }
    fs::remove_file(place.index()).unwrap();
    assert!(index.begin_loading().is_ok());
    assert_eq!((index.is_kept(), index.files().name.clone()), (true, place.name()));
}

/// A file that the system lets nobody open, root neither: a link to itself. What was there comes back with the second one.
fn forbid(file: &Path) {
    fs::rename(file, file.with_extension("aside")).unwrap();
    std::os::unix::fs::symlink(file, file).unwrap();
}

fn allow(file: &Path) {
    fs::rename(file.with_extension("aside"), file).unwrap();
}

#[tokio::test]
async fn what_the_system_does_not_let_be_read_is_kept_and_read_later() {
    let (place, _) = filled(12).await;
    let (name, index) = (place.name(), Index::kept_in(&place.index()).unwrap());
    let (stop, mut refused) = (CancellationToken::new(), 0);
    for file in [place.files(), vec![place.index().join("multivac-index.json")]].concat() {
        // What lies there beside segments is not needed for reading.
        let is_needed = file.extension().is_none_or(|extension| extension != "lock");
        if is_needed {
            forbid(&file);
            assert!(index.open_found(&stop).is_err() && index.is_unread(), "{}", file.display());
            allow(&file);
            refused += 1;
        }
    }
    assert!(refused > 8, "{refused}");
    index.open_found(&stop).unwrap();
    assert!(index.found().is_some());
    drop(index);
    open_and_compare(&place).await.stop().await;
    assert_eq!(place.name(), name);
}

#[tokio::test]
async fn what_cannot_be_read_for_long_is_left_and_the_index_is_a_temporary_one() {
    let (place, _) = filled(13).await;
    let (name, file) = (place.name(), place.files().into_iter().find(|file| file.extension().is_some()).unwrap());
    forbid(&file);
    let (store, index) = (place.store(), Arc::new(Index::kept_in(&place.index()).unwrap()));
    let follower = Follower::new(Arc::clone(&store), Arc::clone(&index), DatumId::generate().to_string());
    let mut retry = Retry::new(Duration::from_millis(1), Duration::from_millis(2));
    follower.read_found(&mut retry, &CancellationToken::new()).await.unwrap();
    assert_eq!(retry.failures(), 8, "it is tried for about a minute");
    drop(follower);
    assert!(!index.is_unread() && index.found().is_none() && !index.is_kept());
    // Whatever befalls that one.
    index.begin_anew().unwrap();
    assert!(!index.is_kept());
    let running = Running::start(&store, Arc::into_inner(index).unwrap()).await;
    assert_eq!(holdings(&running.index), fresh(&*store).await);
    running.stop().await;
    drop(store);
    allow(&file);
    let running = open_and_compare(&place).await;
    assert!(running.index.is_kept());
    running.stop().await;
    assert_eq!(place.name(), name);
}

#[tokio::test]
async fn an_index_is_as_large_as_what_lies_there_while_it_is_not_read() {
    let (place, _) = filled(14).await;
    let size: u64 = place.files().iter().map(|file| fs::metadata(file).unwrap().len()).sum();
    let index = Index::kept_in(&place.index()).unwrap();
    let unread = index.room().0.unwrap();
    assert!(index.is_unread() && unread >= size, "{unread} of {size}");
    index.open_found(&CancellationToken::new()).unwrap();
    assert!(index.room().0.unwrap() >= size);
}

#[tokio::test]
async fn a_commit_of_which_nobody_can_say_whether_it_was_carried_out_is_not_repeated() {
    let (place, _) = filled(15).await;
    let index = Index::kept_in(&place.index()).unwrap();
    index.open_found(&CancellationToken::new()).unwrap();
    let list = index.files().directory.path().join("meta.json");
    // Carried out, and not known of.
    index.files().committed(0);
    index.files().is_seen();
    forbid(&list);
    index.files().failed_to_commit();
    assert!(index.files().check_not_doubtful().is_err());
    assert!(!index.is_lost(), "it cannot be read at present");
    allow(&list);
    assert!(index.files().check_not_doubtful().is_err());
    assert!(index.is_lost());
}

#[tokio::test]
async fn a_damaged_index_is_made_anew() {
    let (place, _) = filled(4).await;
    let (whole, copy) = (place.index(), place.directory.path().join("copy"));
    copy_all(&whole, &copy);
    let (mut random, names) =
        (Rng::with_seed(5), place.files().into_iter().map(|file| file.file_name().unwrap().to_owned()));
    let mut made_anew = 0;
    for file in names {
        for damage in ["gone", "empty", "short", "flipped"] {
            fs::remove_dir_all(&whole).unwrap();
            copy_all(&copy, &whole);
            let name = place.name();
            let path = whole.join(format!("index-{name}")).join(&file);
            let mut bytes = fs::read(&path).unwrap();
            match damage {
                "gone" => fs::remove_file(&path).unwrap(),
                "empty" => fs::write(&path, "").unwrap(),
                "short" => fs::write(&path, &bytes[..bytes.len().saturating_sub(1)]).unwrap(),
                _ if bytes.is_empty() => continue,
                _ => {
                    let at = random.usize(..bytes.len());
                    bytes[at] ^= 1 << random.u8(..8);
                    fs::write(&path, &bytes).unwrap();
                }
            }
            open_and_compare(&place).await.stop().await;
            let is_anew = place.name() != name;
            let is_segment = file.len() > 32;
            assert!(is_anew || !is_segment, "{damage} {}", file.display());
            made_anew += usize::from(is_anew);
        }
    }
    assert!(made_anew > 20, "{made_anew}");
}

#[tokio::test]
async fn an_index_of_another_or_of_an_older_store_is_made_anew() {
    let (place, _) = filled(6).await;
    let older = place.directory.path().join("older");
    copy_all(&place.data(), &older);
    let name = place.name();
    // It goes on, and is kept farther on.
    {
        let store = place.store();
        let running = Running::start(&store, Index::kept_in(&place.index()).unwrap()).await;
        let before = running.index.snapshot().learned;
        feed(&*store, &mut Rng::with_seed(7), 3).await;
        running.index.generations().wait_for(|_| running.index.snapshot().learned == before + 3).await.unwrap();
        running.move_all().await;
        running.stop().await;
    }
    // The older one goes on too, and past the position of the index.
    fs::remove_dir_all(place.data()).unwrap();
    copy_all(&older, &place.data());
    feed(&*place.store(), &mut Rng::with_seed(8), 30).await;
    open_and_compare(&place).await.stop().await;
    let anew = place.name();
    assert_ne!(anew, name);

    fs::remove_dir_all(place.data()).unwrap();
    feed(&*place.store(), &mut Rng::with_seed(9), 500).await;
    open_and_compare(&place).await.stop().await;
    assert_ne!(place.name(), anew);
}

const WITHOUT_FILES: &str = "MULTIVAC_TEST_WITHOUT_FILES";

/// Not a test by itself: the limit of open files is that of a process.
#[test]
fn a_process_that_may_open_no_more_files() {
    let Ok(path) = std::env::var(WITHOUT_FILES) else { return };
    let index = Index::kept_in(&Path::new(&path).join("index")).unwrap();
    let (soft, hard) = rlimit::Resource::NOFILE.get().unwrap();
    let stop = CancellationToken::new();
    // Of those that it has none is closed.
    rlimit::Resource::NOFILE.set(1, hard).unwrap();
    let refused = index.open_found(&stop);
    rlimit::Resource::NOFILE.set(soft, hard).unwrap();
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("Too many open files") || refused.contains("os error 24"), "{refused}");
    index.open_found(&stop).unwrap();
    assert!(index.found().is_some());
    println!("found");
}

#[tokio::test]
async fn an_index_that_is_read_while_too_many_files_are_open_is_kept() {
    let (place, _) = filled(16).await;
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "index::keeping::tests::a_process_that_may_open_no_more_files", "--nocapture"])
        .env(WITHOUT_FILES, place.directory.path())
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&child.stdout).contains("found"), "{child:?}");
}

const CHILD: &str = "MULTIVAC_TEST_KILLED_CHILD";

/// Not a test by itself: what is killed. It feeds, retracts, moves, and says when it has loaded.
#[tokio::test]
async fn a_process_that_is_killed() {
    let Ok(path) = std::env::var(CHILD) else { return };
    let path = PathBuf::from(path);
    let store = Embedded::open(&path.join("data"), QueueSettings::default()).unwrap().store();
    println!("begun");
    let running = Running::start(&store, Index::kept_in(&path.join("index")).unwrap()).await;
    let mut random = Rng::new();
    let moving = tokio::task::spawn_blocking({
        let index = Arc::clone(&running.index);
        move || loop {
            index.move_fresh().unwrap();
            std::thread::sleep(Duration::from_millis(1));
        }
    });
    let mut live: Vec<DatumId> = running.index.visible.read().unwrap().iter().collect();
    while !moving.is_finished() {
        live.extend(feed(&*store, &mut random, 3).await.iter().map(|datum| datum.id));
        // So that there are never many.
        while live.len() > 120 || random.bool() && !live.is_empty() {
            store.retract(live.swap_remove(random.usize(..live.len()))).await.unwrap();
        }
    }
}

/// How often a process is killed. One after the other: between its beginning and its program, a process that is started has the locks of
/// the one that starts it.
const KILLS: usize = 200;

#[tokio::test]
async fn whenever_its_process_is_killed_an_index_is_found_whole_or_made_anew() {
    let (place, mut random, mut found) = (Place::new(), Rng::with_seed(10), 0);
    for kill in 1..=KILLS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "index::keeping::tests::a_process_that_is_killed", "--nocapture"])
            .env(CHILD, place.directory.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().contains("begun")), "the child ended");
        std::thread::sleep(Duration::from_micros(random.u64(..60_000)));
        child.kill().unwrap();
        child.wait().unwrap();
        let before = place.index().join("multivac-index.json").exists().then(|| place.name());
        open_and_compare(&place).await.stop().await;
        found += usize::from(before == Some(place.name()));
        if kill % 10 == 0 {
            // The next one loads.
            fs::remove_file(place.index().join("multivac-index.json")).unwrap();
        }
    }
    assert!(found > KILLS / 2, "found again only {found} times");
}

fn copy_all(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_all(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}
