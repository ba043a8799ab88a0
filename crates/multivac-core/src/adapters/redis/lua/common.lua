-- What the other scripts share; it is put before each of them.
--
-- The keys of the one partition that a script works on come first, always in this order.
local stream, jobs, ledger, dead, wakeup = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]

-- An entry's fields are read by their place: id, at, attempts, data, and what else there is.
local ID, ATTEMPTS, DATA = 2, 6, 8

-- Wakes one consumer that waits. One ring is enough for any number of jobs: whoever leases and leaves some rings again.
local function wake()
  if redis.call('EXISTS', wakeup) == 0 then redis.call('RPUSH', wakeup, '') end
end

local function fields_of(key, entry)
  local found = redis.call('XRANGE', key, entry, entry)[1]
  return found and found[2]
end

-- Whether a lease is in force: nobody else has the entry, and it was not delivered again since.
-- Fails with NOGROUP when the group is gone, so whoever writes asks this first: scripts are not rolled back.
local function holds(group, consumer, entry, delivery)
  local pending = redis.call('XPENDING', stream, group, entry, entry, 1)[1]
  return pending and pending[2] == consumer and pending[4] == tonumber(delivery)
end

-- Notes that so many jobs, with so much text, have left the stream.
local function drained(count, bytes)
  redis.call('HINCRBY', ledger, 'bytes', -bytes)
  redis.call('HINCRBY', ledger, 'drained', count)
  redis.call('HINCRBY', ledger, 'drained_bytes', bytes)
end

local function forget(group, entry)
  redis.call('XACK', stream, group, entry)
  redis.call('XDEL', stream, entry)
end

-- What is noted of an id: its mark (q: on the stream; r: the same, and retracted; d: dead) and its entry there.
local function noted(id)
  local note = redis.call('HGET', jobs, id)
  if note then return note:sub(1, 1), note:sub(2) end
end

-- The partition's part of the ledger: accepted, queued, processing, learned, retracted, dead.
local function count(group)
  local processing = redis.call('XPENDING', stream, group)[1]
  local counted = redis.call('HMGET', ledger, 'accepted', 'learned', 'retracted')
  return {
    tonumber(counted[1] or 0),
    redis.call('XLEN', stream) - processing,
    processing,
    tonumber(counted[2] or 0),
    tonumber(counted[3] or 0),
    redis.call('XLEN', dead),
  }
end

