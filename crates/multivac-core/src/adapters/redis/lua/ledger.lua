-- A partition's part of the ledger, in one snapshot.
--
-- ARGV: group.
return count(ARGV[1])
