-- Version 2 of multivac.db: how much text the unfinished jobs hold, and what has left the queue.

-- One row, kept up to date by the triggers below, so that no step that adds or deletes a job can forget it.
CREATE TABLE held (
    one           INTEGER PRIMARY KEY CHECK (one = 1),
    bytes         INTEGER NOT NULL CHECK (bytes >= 0),
    drained       INTEGER NOT NULL,
    drained_bytes INTEGER NOT NULL
) STRICT;
INSERT INTO held SELECT 1, COALESCE(SUM(octet_length(text)), 0), 0, 0 FROM job;

CREATE TRIGGER job_came AFTER INSERT ON job BEGIN
    UPDATE held SET bytes = bytes + octet_length(NEW.text);
END;
CREATE TRIGGER job_left AFTER DELETE ON job BEGIN
    UPDATE held SET bytes = bytes - octet_length(OLD.text), drained = drained + 1,
                    drained_bytes = drained_bytes + octet_length(OLD.text);
END;
