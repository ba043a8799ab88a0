-- What the other scripts share; it is put before each of them.
--
-- KEYS begins with the keys of the one partition that a script works on, always in this order. Those after them hold
-- strings.
local stream, jobs, ledger, dead, wakeup = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]

-- Redis does not undo what a script wrote before it failed. So what could fail in the middle is found before anything is
-- written: a key of another type, which some other program or a hand has put there, and a count that is no number.
local kinds = { 'stream', 'hash', 'hash', 'stream', 'list' }
for place, key in ipairs(KEYS) do
  local kind, expected = redis.call('TYPE', key).ok, kinds[place] or 'string'
  if kind ~= 'none' and kind ~= expected then
    return redis.error_reply('WRONGKEY ' .. key .. ' is a ' .. kind .. ', expected a ' .. expected)
  end
end
for _, count in ipairs(redis.call('HVALS', ledger)) do
  if #count > 18 or not count:match('^%-?%d+$') then
    return redis.error_reply('WRONGKEY ' .. ledger .. ' has a field that is no whole number')
  end
end

-- The present, in ms, by Redis's clock.
local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- The reply to a call that is executed when nobody waits for it any more, or before it was made by the clock that it was
-- made by; nil while it is in time. Takes the last two of ARGV off: from when to when (ms) it may be executed.
local function late_reply()
  local latest, earliest = tonumber(table.remove(ARGV)), tonumber(table.remove(ARGV))
  local now = now_ms()
  if now < earliest or now > latest then return redis.error_reply(string.format('LATE %d', now)) end
end

-- An entry's fields are read by their place: id, at, attempts, data, and what else there is.
local ID, AT, ATTEMPTS, DATA = 2, 4, 6, 8

-- Wakes one consumer that waits. One wakeup is enough for any number of jobs: a consumer that leases some and leaves
-- others wakes the next.
local function wake()
  if redis.call('EXISTS', wakeup) == 0 then redis.call('RPUSH', wakeup, '') end
end

-- Redis at `maxmemory` refuses the first write of a script if that may need memory, and lets all that follow pass. So what must
-- run there, since it frees memory in the end or operators need it to free some, begins with a write that needs none.
local function write_at_maxmemory() redis.call('HDEL', jobs, '') end

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

-- Adds to a count of the ledger. The sum is written, and not what is added: Redis may execute the first half of what a
-- script wrote once more, before what was written since, from an append-only file that was torn.
local function add(name, more)
  redis.call('HSET', ledger, name, string.format('%.0f', (redis.call('HGET', ledger, name) or 0) + more))
end

-- Counts jobs, and the bytes of their text, as having left the stream.
local function count_drained(count, bytes)
  -- Never below nothing: of an entry that Redis has twice, from a half of what a script wrote, the text was counted once.
  add('bytes', -math.min(bytes, tonumber(redis.call('HGET', ledger, 'bytes') or 0)))
  add('drained', count)
  add('drained_bytes', bytes)
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

-- How many jobs have an entry, and how many have lost theirs: someone deleted a stream, or entries of it.
local function count_entries()
  local unfinished, dead_letters = redis.call('XLEN', stream), redis.call('XLEN', dead)
  return unfinished, dead_letters, redis.call('HLEN', jobs) - unfinished - dead_letters
end

-- The partition's ledger: accepted, queued, processing, learned, retracted, dead. What has lost its entry does not count as
-- accepted any more, so that the ledger balances before repair.lua has found out which jobs those are.
local function counts_of(group)
  local unfinished, dead_letters, lost = count_entries()
  -- A lease of an entry that is gone stays until it runs out.
  local processing = math.min(redis.call('XPENDING', stream, group)[1], unfinished)
  local counted = redis.call('HMGET', ledger, 'accepted', 'learned', 'retracted')
  return {
    tonumber(counted[1] or 0) - math.max(lost, 0),
    unfinished - processing,
    processing,
    tonumber(counted[2] or 0),
    tonumber(counted[3] or 0),
    dead_letters,
  }
end

