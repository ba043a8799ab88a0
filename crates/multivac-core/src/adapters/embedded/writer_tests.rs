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
    let (unblock, blocked) = mpsc::channel::<()>();
    writer.handle().post(move |_| {
        let _ = blocked.recv();
        Ok(())
    });
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
