-- What the partition holds, and what has left it, in one snapshot.
--
-- ARGV: group. Returns queued, processing, dead, bytes of the unfinished, when the first of them was accepted (or -1),
-- jobs that have left, and their bytes.
local counts = counts_of(ARGV[1])
local queued, processing, dead_letters = counts[2], counts[3], counts[6]
local sizes = redis.call('HMGET', ledger, 'bytes', 'drained', 'drained_bytes')
local first = redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
return {
  queued,
  processing,
  dead_letters,
  first and tonumber(sizes[1] or 0) or 0,
  first and tonumber(first[2][4]) or -1,
  tonumber(sizes[2] or 0),
  tonumber(sizes[3] or 0),
}
