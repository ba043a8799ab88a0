-- What the other scripts share; it is put before each of them.
--
-- KEYS begins with the keys of the one partition that a script works on, always in this order.
local stream, jobs, ledger, dead, wakeup = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]

-- An entry's fields are read by their place: id, at, attempts, data, and what else there is.
local ID, ATTEMPTS, DATA = 2, 6, 8

-- Wakes one consumer that waits. One wakeup is enough for any number of jobs: a consumer that leases some and leaves
-- others wakes the next.
local function wake()
  if redis.call('EXISTS', wakeup) == 0 then redis.call('RPUSH', wakeup, '') end
end

-- Redis at `maxmemory` refuses the first write of a script if that may need memory, and lets all that follow pass. So what must
-- run there, since it frees memory in the end or operators need it to free some, begins with a write that needs none.
local function write_at_maxmemory() redis.call('HDEL', jobs, '') end

-- The present, in ms, by Redis's clock.
local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- Leases begin now; lease.lua compares this with the clock that it finds.
local function note_clock() redis.call('HSET', ledger, 'clock', now_ms()) end

local function fields_of(key, entry)
  local found = redis.call('XRANGE', key, entry, entry)[1]
  return found and found[2]
end

-- Whether a lease is in force: the entry belongs to this consumer, and was not delivered again since.
-- Fails with NOGROUP when the group is missing. A script that writes calls this first, since Redis does not undo what a
-- script wrote before it failed.
local function holds_lease(group, consumer, entry, delivery)
  local pending = redis.call('XPENDING', stream, group, entry, entry, 1)[1]
  return pending and pending[2] == consumer and pending[4] == tonumber(delivery)
end

-- Counts jobs, and the bytes of their text, as having left the stream.
local function count_drained(count, bytes)
  redis.call('HINCRBY', ledger, 'bytes', -bytes)
  redis.call('HINCRBY', ledger, 'drained', count)
  redis.call('HINCRBY', ledger, 'drained_bytes', bytes)
end

local function remove_entry(group, entry)
  redis.call('XACK', stream, group, entry)
  redis.call('XDEL', stream, entry)
end

-- An unfinished job by its id: its mark (q: on the stream; r: the same, and retracted; d: dead) and its entry there.
local function find_job(id)
  local job = redis.call('HGET', jobs, id)
  if job then return job:sub(1, 1), job:sub(2) end
end

-- The partition's ledger: accepted, queued, processing, learned, retracted, dead.
local function counts_of(group)
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

