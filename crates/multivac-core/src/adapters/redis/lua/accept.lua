-- Puts jobs on the stream, in their order. A job that is there already, and one whose idempotency key is, adds nothing.
--
-- KEYS after the partition's: where the reply is kept; the idempotency keys.
-- ARGV: unfinished jobs at most, bytes of their text at most, the idempotency keys' lifetime in seconds, how long to keep
-- the reply in seconds; then of each job: id, received at, text, trace or '', and the place of its idempotency key among
-- them, or 0; at the end, from when to when it may be executed.
-- Returns for each job '+' (accepted), '-' (full), '~' (accepted by this very call before, and rolled back since), or the id
-- that its idempotency key stands for.
local late = late_reply()
if late then return late end
local limit, limit_bytes, lifetime = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3]
local queued, accepted, results = redis.call('XLEN', stream), 0, {}
-- An empty stream holds no bytes, whatever was counted: someone may have deleted entries by hand.
local bytes = queued > 0 and tonumber(redis.call('HGET', ledger, 'bytes') or 0) or 0

-- The same call again, whose first reply was lost. Its jobs may be finished by now, so only the kept reply tells of them.
local kept = redis.call('GET', KEYS[6])
if kept then
  for result in kept:gmatch('%S+') do results[#results + 1] = result end
  -- A WAITAOF behind this script waits up to the last write of its own connection. This small write makes it wait for
  -- the jobs of the first call too.
  redis.call('EXPIRE', KEYS[6], ARGV[4])
  return results
end

for i = 5, #ARGV, 5 do
  local id, at, data, trace = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
  local place = tonumber(ARGV[i + 4])
  local idempotency_key = place > 0 and KEYS[6 + place]
  local first = idempotency_key and redis.call('GET', idempotency_key)
  local result = '+'
  if first then
    result = first:match('%S+')
    -- Written for WAITAOF, as above. The space says that another call has reported this id as accepted, so that
    -- rollback.lua keeps the job.
    redis.call('SET', idempotency_key, result .. ' ', 'EX', lifetime)
  elseif redis.call('HEXISTS', jobs, id) == 1 then
    -- It is on the stream since a call with other jobs. Written for WAITAOF, as above.
    redis.call('HSET', jobs, id, redis.call('HGET', jobs, id))
  elseif queued >= limit or bytes + #data > limit_bytes then
    result = '-'
  else
    local fields = { 'id', id, 'at', at, 'attempts', '0', 'data', data }
    if trace ~= '' then
      fields[9], fields[10] = 'trace', trace
    end
    redis.call('HSET', jobs, id, 'q' .. redis.call('XADD', stream, '*', unpack(fields)))
    if idempotency_key then redis.call('SET', idempotency_key, id, 'EX', lifetime) end
    queued, bytes, accepted = queued + 1, bytes + #data, accepted + 1
  end
  results[#results + 1] = result
end

if accepted > 0 then
  add('accepted', accepted)
  redis.call('HSET', ledger, 'bytes', bytes)
  redis.call('SET', KEYS[6], table.concat(results, ' '), 'EX', ARGV[4])
  wake()
end
return results
