#![allow(clippy::unwrap_used)]

use super::*;

fn writer() -> Writer {
    let connection = Connection::open_in_memory().unwrap();
    connection.execute_batch("CREATE TABLE n (n INTEGER UNIQUE)").unwrap();
    Writer::start(connection).unwrap()
}

fn insert(context: &WriteContext<'_>, n: i64) -> rusqlite::Result<()> {
    context.connection.execute("INSERT INTO n VALUES (?1)", [n]).map(|_| ())
}

async fn all(writer: &Writer) -> Vec<i64> {
    let select = |context: &WriteContext<'_>| {
        let mut select = context.connection.prepare("SELECT n FROM n ORDER BY n")?;
        select.query_map([], |row| row.get(0))?.collect()
    };
    writer.handle().write(0, select).await.unwrap()
}

/// Keeps the writer busy until the returned sender is dropped, so that the steps sent meanwhile are one group.
fn block(writer: &Writer) -> mpsc::Sender<()> {
    let (begin, begun) = mpsc::channel();
    let (unblock, blocked) = mpsc::channel::<()>();
    writer.handle().post(move |_| {
        begin.send(()).unwrap();
        let _ = blocked.recv();
        Ok(())
    });
    begun.recv().unwrap();
    unblock
}

#[tokio::test]
async fn a_step_that_fails_is_undone_alone() {
    let writer = writer();
    let blocked = block(&writer);
    let twice = |context: &WriteContext<'_>| insert(context, 2).and_then(|()| insert(context, 1));
    let handle = writer.handle();
    let (one, two, three, ()) = tokio::join!(
        handle.write(0, |context| insert(context, 1)),
        handle.write(0, twice),
        handle.write(0, |context| insert(context, 3)),
        async { drop(blocked) }
    );
    assert!(one.is_ok() && two.is_err() && three.is_ok());
    assert_eq!(all(&writer).await, [1, 3]);
}

#[tokio::test]
async fn a_lost_transaction_fails_its_whole_group_and_the_next_goes_on() {
    let writer = writer();
    let blocked = block(&writer);
    // SQLite itself rolls back when the disk is full.
    let lose = |context: &WriteContext<'_>| context.connection.execute_batch("ROLLBACK; SELECT * FROM nowhere");
    let handle = writer.handle();
    let (one, two, three, ()) = tokio::join!(
        handle.write(0, |context| insert(context, 1)),
        handle.write(0, lose),
        handle.write(0, |context| insert(context, 3)),
        async { drop(blocked) }
    );
    assert!(one.is_err() && two.is_err() && three.is_err());
    handle.write(0, |context| insert(context, 4)).await.unwrap();
    assert_eq!(all(&writer).await, [4]);
}

#[tokio::test]
async fn a_caller_that_goes_away_does_not_cancel_its_step() {
    let writer = writer();
    let blocked = block(&writer);
    let mut gone = Box::pin(writer.handle().write(0, |context| insert(context, 1)));
    assert!(futures_util::poll!(&mut gone).is_pending());
    drop(gone);
    drop(blocked);
    assert_eq!(all(&writer).await, [1]);
}

#[tokio::test]
async fn what_waits_when_the_writer_is_dropped_is_finished() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("n.db");
    let connection = Connection::open(&path).unwrap();
    connection.execute_batch("CREATE TABLE n (n INTEGER UNIQUE)").unwrap();
    let writer = Writer::start(connection).unwrap();
    for n in 0..100 {
        writer.handle().post(move |context| insert(context, n));
    }
    drop(writer);
    let count: i64 =
        Connection::open(&path).unwrap().query_row("SELECT COUNT(*) FROM n", [], |row| row.get(0)).unwrap();
    assert_eq!(count, 100);
}

#[tokio::test]
async fn text_over_the_limit_waits_for_its_turn() {
    let writer = writer();
    let blocked = block(&writer);
    let mut whole = Box::pin(writer.handle().write(usize::MAX, |context| insert(context, 1)));
    assert!(futures_util::poll!(&mut whole).is_pending());
    let mut next = Box::pin(writer.handle().write(0, |context| insert(context, 2)));
    assert!(futures_util::poll!(&mut next).is_pending());
    assert_eq!(writer.handle().waiting_kib.available_permits(), 0);
    drop(blocked);
    whole.await.unwrap();
    next.await.unwrap();
    assert_eq!(all(&writer).await, [1, 2]);
}

/// Runs as a step until the returned sender is dropped, and panics then. The receiver says when it has begun.
fn panic_later(
    handle: &WriterHandle,
) -> (impl Future<Output = Result<(), DatabaseError>>, mpsc::Receiver<()>, mpsc::Sender<()>) {
    let (begin, begun) = mpsc::channel();
    let (unblock, blocked) = mpsc::channel::<()>();
    let panics = move |context: &WriteContext<'_>| {
        insert(context, 666)?;
        begin.send(()).unwrap();
        let _ = blocked.recv();
        panic!("a bug")
    };
    (handle.write(0, panics), begun, unblock)
}

fn on_disk() -> (tempfile::TempDir, Writer) {
    let dir = tempfile::tempdir().unwrap();
    let connection = Connection::open(dir.path().join("n.db")).unwrap();
    connection.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE n (n INTEGER UNIQUE)").unwrap();
    (dir, Writer::start(connection).unwrap())
}

fn left_on_disk(dir: &tempfile::TempDir) -> Vec<i64> {
    let connection = Connection::open(dir.path().join("n.db")).unwrap();
    let mut select = connection.prepare("SELECT n FROM n ORDER BY n").unwrap();
    select.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

#[tokio::test]
async fn a_panic_writes_nothing_of_its_group_and_ends_the_writer() {
    let (dir, writer) = on_disk();
    let handle = writer.handle();
    handle.write(0, |context| insert(context, 1)).await.unwrap();
    let blocked = block(&writer);
    let panics = |context: &WriteContext<'_>| -> rusqlite::Result<()> {
        insert(context, 3)?;
        panic!("a bug")
    };
    let (before, panicked, after, ()) = tokio::join!(
        handle.write(0, |context| insert(context, 2)),
        handle.write(0, panics),
        handle.write(0, |context| insert(context, 4)),
        async { drop(blocked) }
    );
    for result in [before, panicked, after] {
        assert!(matches!(result, Err(DatabaseError::WriterEnded)), "{result:?}");
    }
    writer.broken().cancelled().await;
    let later = handle.write(0, |context| insert(context, 5)).await;
    assert!(matches!(later, Err(DatabaseError::WriterEnded)), "{later:?}");
    drop(writer);
    assert_eq!(left_on_disk(&dir), [1]);
}

#[tokio::test]
async fn steps_that_wait_during_a_panic_are_not_written() {
    let (dir, writer) = on_disk();
    let (panics, begun, unblock) = panic_later(writer.handle());
    let mut panics = Box::pin(panics);
    assert!(futures_util::poll!(&mut panics).is_pending());
    // From now on a step is in no group with it.
    begun.recv().unwrap();
    let mut waits = Box::pin(writer.handle().write(0, |context| insert(context, 1)));
    assert!(futures_util::poll!(&mut waits).is_pending());
    drop(unblock);
    assert!(matches!(panics.await, Err(DatabaseError::WriterEnded)));
    assert!(matches!(waits.await, Err(DatabaseError::WriterEnded)));
    drop(writer);
    assert_eq!(left_on_disk(&dir), [0_i64; 0]);
}

#[tokio::test]
async fn a_panic_after_the_commit_leaves_the_outcome_unknown() {
    struct PanicsWhenDropped;
    impl Drop for PanicsWhenDropped {
        fn drop(&mut self) {
            panic!("a bug");
        }
    }
    let (dir, writer) = on_disk();
    let blocked = block(&writer);
    // Nobody takes this result, so that it is dropped where the group is answered.
    let mut gone = Box::pin(writer.handle().write(0, |context| insert(context, 1).map(|()| PanicsWhenDropped)));
    assert!(futures_util::poll!(&mut gone).is_pending());
    let mut next = Box::pin(writer.handle().write(0, |context| insert(context, 2)));
    assert!(futures_util::poll!(&mut next).is_pending());
    drop(gone);
    drop(blocked);
    assert!(matches!(next.await, Err(DatabaseError::OutcomeUnknown)));
    writer.broken().cancelled().await;
    drop(writer);
    assert_eq!(left_on_disk(&dir), [1, 2]);
}

#[tokio::test]
async fn a_writer_that_is_dropped_is_not_broken() {
    let writer = writer();
    let broken = writer.broken().clone();
    writer.handle().write(0, |context| insert(context, 1)).await.unwrap();
    drop(writer);
    assert!(!broken.is_cancelled());
}
