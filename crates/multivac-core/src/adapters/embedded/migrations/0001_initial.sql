-- Version 1 of multivac.db: the queue's tables, the ledger, and the store's table.
--
-- Ids are BLOBs of 16 bytes (UUID) or 12 (the original application's ObjectId). Times that end in _at are
-- milliseconds since 1970 in UTC, but for attempt.due_ms.

-- Unfinished jobs, as they were accepted. A row is written once and never updated, so that leasing a job does not
-- write its text again. AUTOINCREMENT: a number is never used twice, so their order is the order of accepting.
CREATE TABLE job (
    seq         INTEGER PRIMARY KEY AUTOINCREMENT,
    id          BLOB    NOT NULL UNIQUE,
    received_at INTEGER NOT NULL,
    trace       TEXT,
    text        TEXT    NOT NULL
) STRICT;

-- The attempts at a job. A job with a row here is processing, one without is queued; so is one that was released after
-- earlier attempts, whose due_ms is -1.
CREATE TABLE attempt (
    id       BLOB    NOT NULL PRIMARY KEY REFERENCES job (id),
    attempts INTEGER NOT NULL CHECK (attempts > 0),  -- counted when leased: a job that kills the process is dead in the end
    token    TEXT,                                   -- the present lease; none while it waits for its next attempt
    due_ms   INTEGER NOT NULL                        -- may be leased from then on; by the clock of this process
) STRICT, WITHOUT ROWID;
CREATE INDEX attempt_due ON attempt (due_ms);

-- Jobs whose attempts are used up.
CREATE TABLE dead (
    id          BLOB    NOT NULL PRIMARY KEY,
    attempts    INTEGER NOT NULL,
    error       TEXT    NOT NULL,
    died_at     INTEGER NOT NULL,
    received_at INTEGER NOT NULL,
    trace       TEXT,
    text        TEXT    NOT NULL
) STRICT;

-- Idempotency keys, until they are forgotten.
CREATE TABLE idempotency (
    key        BLOB    NOT NULL PRIMARY KEY,
    id         BLOB    NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX idempotency_expires ON idempotency (expires_at);

-- Ids whose retraction is in the ledger, or will be when their job is completed. So each is entered once.
CREATE TABLE retraction (
    id BLOB NOT NULL PRIMARY KEY
) STRICT, WITHOUT ROWID;

-- The ledger, one row, changed in the transaction that moves the jobs (counting a million rows takes too long).
-- A step after which it would not balance fails, and is undone.
CREATE TABLE ledger (
    one        INTEGER PRIMARY KEY CHECK (one = 1),
    accepted   INTEGER NOT NULL CHECK (accepted >= 0),
    queued     INTEGER NOT NULL CHECK (queued >= 0),
    processing INTEGER NOT NULL CHECK (processing >= 0),
    learned    INTEGER NOT NULL CHECK (learned >= 0),
    retracted  INTEGER NOT NULL CHECK (retracted >= 0),
    dead       INTEGER NOT NULL CHECK (dead >= 0),
    CHECK (accepted = queued + processing + learned + retracted + dead)
) STRICT;
INSERT INTO ledger VALUES (1, 0, 0, 0, 0, 0, 0);

-- The store: learned data, and tombstones in the place of those that were taken back. A datum that is retracted gets
-- a new row, so seq is the number of its last change, and reading on from a seq is following the changes.
CREATE TABLE datum (
    seq          INTEGER PRIMARY KEY AUTOINCREMENT,
    id           BLOB NOT NULL UNIQUE,
    received_at  INTEGER,  -- a tombstone may not know it
    processed_at INTEGER,
    retracted_at INTEGER,
    digest       TEXT,
    trace        TEXT,
    passages     TEXT,     -- a JSON array of strings
    text         TEXT,
    CHECK ((retracted_at IS NULL) = (text IS NOT NULL))
) STRICT;
CREATE INDEX datum_tombstone ON datum (seq) WHERE retracted_at IS NOT NULL;
