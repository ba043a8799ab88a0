-- Puts jobs on the stream, in their order. A job that is there already, and one whose idempotency key is, adds nothing.
--
-- KEYS after the partition's: where the reply is kept; the idempotency keys, each followed by where it lay up to 0.1.0.
-- ARGV: unfinished jobs at most, bytes of their text at most, the idempotency keys' lifetime in seconds, how long to keep
-- the reply in seconds; then as one text (packed.rs), of each job: id, received at, text, trace or '', and the place of its
-- idempotency key among them and the digest of its text, or 0 and ''; at the end, from when to when it may be executed.
-- Returns for each job, with spaces between them, '+' (accepted), '-' (full), '~' (accepted by this very call before, and rolled
-- back since), '#' (its idempotency key stands for another text), or the id that its idempotency key stands for.
local late = late_reply()
if late then return late end
local limit, limit_bytes, lifetime = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3]
local queued, accepted, results = redis.call('XLEN', stream), 0, {}
-- An empty stream holds no bytes, whatever was counted: someone may have deleted entries by hand.
local bytes = queued > 0 and tonumber(redis.call('HGET', ledger, 'bytes') or 0) or 0

-- The same call again, whose first reply was lost. Its jobs may be finished by now, so only the kept reply tells of them.
local kept = redis.call('GET', KEYS[6])
if kept then
  -- A WAITAOF behind this script waits up to the last write of its own connection. This small write makes it wait for
  -- the jobs of the first call too.
  redis.call('EXPIRE', KEYS[6], ARGV[4])
  return kept
end

-- At `maxmemory` it is as if the limit were reached: nothing is added, and what is there already is found.
local counted = redis.pcall('HINCRBY', ledger, 'accepted', 0)
if type(counted) == 'table' then
  if not counted.err:find('OOM', 1, true) then return counted end
  limit = 0
  write_at_maxmemory()
end

-- What an idempotency key stands for: its key in Redis, the id, and the digest of the text, which is '' up to 0.1.0.
local function find_first(place)
  for _, key in ipairs({ KEYS[6 + place], KEYS[7 + place] }) do
    local id, digest = (redis.call('GET', key) or ''):match('^(%S+) ?(%S*)')
    -- What lies under the second with a digest belongs to somebody else.
    if id and (key == KEYS[6 + place] or digest == '') then return key, id, digest end
  end
end

-- Which of the jobs are there already, since a call with other jobs. All at once: what a job costs Redis is mostly the number of
-- commands.
local submitted, ids = cmsgpack.unpack(ARGV[5]), {}
for i = 1, #submitted, 6 do ids[#ids + 1] = submitted[i] end
local there, entered = redis.call('HMGET', jobs, unpack(ids)), {}

for i = 1, #submitted, 6 do
  local id, at, data, trace = submitted[i], submitted[i + 1], submitted[i + 2], submitted[i + 3]
  local place, digest = tonumber(submitted[i + 4]), submitted[i + 5]
  local idempotency_key = place > 0 and KEYS[6 + place]
  local entry = there[#results + 1]
  local key, first, first_digest
  if idempotency_key then key, first, first_digest = find_first(place) end
  local result = '+'
  if first and first_digest ~= '' and first_digest ~= digest then
    result = '#'
  elseif first then
    result = first
    -- Written for WAITAOF, as above. The space at the end says that another call has reported this id as accepted, so that
    -- rollback.lua keeps the job.
    if first_digest ~= '' then first = first .. ' ' .. first_digest end
    redis.call('SET', key, first .. ' ', 'EX', lifetime)
  elseif entry then
    -- Written for WAITAOF, as above.
    redis.call('HSET', jobs, id, entry)
  elseif queued >= limit or bytes + #data > limit_bytes then
    result = '-'
  else
    if trace == '' then
      entry = redis.call('XADD', stream, '*', 'id', id, 'at', at, 'attempts', '0', 'data', data)
    else
      entry = redis.call('XADD', stream, '*', 'id', id, 'at', at, 'attempts', '0', 'data', data, 'trace', trace)
    end
    entered[#entered + 1], entered[#entered + 2] = id, 'q' .. entry
    if idempotency_key then redis.call('SET', idempotency_key, id .. ' ' .. digest, 'EX', lifetime) end
    queued, bytes, accepted = queued + 1, bytes + #data, accepted + 1
  end
  results[#results + 1] = result
end

results = table.concat(results, ' ')
if accepted > 0 then
  redis.call('HSET', jobs, unpack(entered))
  redis.call('HSET', ledger, 'accepted', string.format('%.0f', counted + accepted), 'bytes', bytes)
  redis.call('SET', KEYS[6], results, 'EX', ARGV[4])
  wake()
end
return results
