-- The partition's ledger, in one snapshot.
--
-- ARGV: group. Returns accepted, queued, processing, learned, retracted, dead.
return counts_of(ARGV[1])
