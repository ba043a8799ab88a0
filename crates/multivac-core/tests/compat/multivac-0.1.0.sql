-- A multivac.db as 0.1.0 wrote it (`.dump` of the sqlite3 program, which leaves out the next two lines).
PRAGMA application_id = 1297506659;
PRAGMA user_version = 2;
PRAGMA foreign_keys=OFF;
BEGIN TRANSACTION;
CREATE TABLE job (
    seq         INTEGER PRIMARY KEY AUTOINCREMENT,
    id          BLOB    NOT NULL UNIQUE,
    received_at INTEGER NOT NULL,
    trace       TEXT,
    text        TEXT    NOT NULL
) STRICT;
INSERT INTO job VALUES(4,X'01a2070d70f870008000000000000004',1795406022004,NULL,'This failed once.');
INSERT INTO job VALUES(5,X'01a2070d70f870008000000000000005',1795406022005,'00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00',replace(replace('line one\r\nline two ﻿','\r',char(13)),'\n',char(10)));
INSERT INTO job VALUES(6,X'01a2070d70f870008000000000000006',1795406022006,NULL,'Its worker died.');
CREATE TABLE attempt (
    id       BLOB    NOT NULL PRIMARY KEY REFERENCES job (id),
    attempts INTEGER NOT NULL CHECK (attempts > 0),  -- counted when leased: what kills the process dies in the end
    token    TEXT,                                   -- the present lease; none while it waits for its next attempt
    due_ms   INTEGER NOT NULL                        -- may be leased from then on; by the clock of this process
) STRICT, WITHOUT ROWID;
INSERT INTO attempt VALUES(X'01a2070d70f870008000000000000004',1,NULL,-1);
INSERT INTO attempt VALUES(X'01a2070d70f870008000000000000006',1,'01a21497-cbb6-767b-9ac6-a55d476815b8',60115);
CREATE TABLE dead (
    id          BLOB    NOT NULL PRIMARY KEY,
    attempts    INTEGER NOT NULL,
    error       TEXT    NOT NULL,
    died_at     INTEGER NOT NULL,
    received_at INTEGER NOT NULL,
    trace       TEXT,
    text        TEXT    NOT NULL
) STRICT;
INSERT INTO dead VALUES(X'01a2070d70f870008000000000000003',2,'failure number 2: é',1795641822028,1795406022003,'00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01','This could not be processed.');
CREATE TABLE idempotency (
    key        BLOB    NOT NULL PRIMARY KEY,
    id         BLOB    NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO idempotency VALUES(X'07070707070707070707070707070707',X'01a2070d70f870008000000000000001',1795728222019);
CREATE TABLE retraction (
    id BLOB NOT NULL PRIMARY KEY
) STRICT, WITHOUT ROWID;
INSERT INTO retraction VALUES(X'01a2070d70f870008000000000000002');
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
INSERT INTO ledger VALUES(1,6,2,1,1,1,1);
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
INSERT INTO datum VALUES(1,X'01a2070d70f870008000000000000001',1795406022001,1795406023000,NULL,'093dde95696496ffe9a6c64813a1a342','00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01','["The first paragraph, é 🌌.","The second paragraph."]',replace('The first paragraph, é 🌌.\n\nThe second paragraph.','\n',char(10)));
INSERT INTO datum VALUES(3,X'01a2070d70f870008000000000000002',1795406022002,NULL,1795641822026,NULL,NULL,NULL,NULL);
CREATE TABLE held (
    one           INTEGER PRIMARY KEY CHECK (one = 1),
    bytes         INTEGER NOT NULL CHECK (bytes >= 0),
    drained       INTEGER NOT NULL,
    drained_bytes INTEGER NOT NULL
) STRICT;
INSERT INTO held VALUES(1,55,3,112);
DELETE FROM sqlite_sequence;
INSERT INTO sqlite_sequence VALUES('job',6);
INSERT INTO sqlite_sequence VALUES('datum',3);
CREATE INDEX attempt_due ON attempt (due_ms);
CREATE INDEX idempotency_expires ON idempotency (expires_at);
CREATE INDEX datum_tombstone ON datum (seq) WHERE retracted_at IS NOT NULL;
CREATE TRIGGER job_came AFTER INSERT ON job BEGIN
    UPDATE held SET bytes = bytes + octet_length(NEW.text);
END;
CREATE TRIGGER job_left AFTER DELETE ON job BEGIN
    UPDATE held SET bytes = bytes - octet_length(OLD.text), drained = drained + 1,
                    drained_bytes = drained_bytes + octet_length(OLD.text);
END;
COMMIT;
