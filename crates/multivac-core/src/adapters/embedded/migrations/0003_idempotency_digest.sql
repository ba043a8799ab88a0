-- Version 3 of multivac.db: an idempotency key stands for one text.

-- Datum::digest of the text that was accepted with the key; NULL where an older release accepted it.
ALTER TABLE idempotency ADD COLUMN digest BLOB;
