-- Leases jobs to a consumer: first those whose lease ran out or whose next attempt is due, then new ones, then those that the
-- group has passed and nobody holds.
--
-- ARGV: group, consumer, jobs at most, bytes of text at most, lease in ms, attempts at most, how many jobs its batch holds
-- already; then the batch limits: how many jobs may come together with one that has one attempt left, with two, and so on.
-- Returns whether more jobs may be waiting (1 or 0), how many more may join the batch, how many of those leased had a lease that
-- ran out; and as one text (packed.rs), of each job leased: its entry, which delivery of it this is, and id, at, attempts, data and
-- trace of its fields, '' where there is none.
local group, consumer, max, max_bytes = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local lease, max_attempts, in_batch = ARGV[5], tonumber(ARGV[6]), tonumber(ARGV[7])
local leases, leased, bytes, ran_out = {}, 0, 0, 0

-- The largest text so far, or what texts may have unless it is configured, in bytes.
local largest = 1048576

-- A job that ends its worker every time takes the rest of its batch with it, so the batch shrinks as its attempts do, and
-- it dies alone.
local batch_limits = {}
for i = 8, #ARGV do batch_limits[#batch_limits + 1] = tonumber(ARGV[i]) end

local function add_lease(entry, delivery, fields)
  local trace, at = '', #leases
  for i = DATA + 1, #fields, 2 do
    if fields[i] == 'trace' then trace = fields[i + 1] end
  end
  leases[at + 1], leases[at + 2], leases[at + 3] = entry, delivery, fields[ID] or ''
  leases[at + 4], leases[at + 5], leases[at + 6] = fields[AT] or '', fields[ATTEMPTS] or '', fields[DATA] or ''
  leases[at + 7] = trace
  leased, bytes, largest = leased + 1, bytes + #leases[at + 6], math.max(largest, #leases[at + 6])
end

-- Redis's clock was set back. Leases that were given before would end as much later, so they start anew now: Redis tells how long
-- an entry has been idle as 0 where that lies in the future. It is the same lease still, JUSTID, and nobody loses one.
local function restart_leases()
  write_at_maxmemory()
  local from = '-'
  while true do
    local page = redis.call('XPENDING', stream, group, from, '+', 1000)
    for _, pending in ipairs(page) do
      if pending[3] == 0 then redis.call('XCLAIM', stream, group, pending[2], 0, pending[1], 'JUSTID') end
    end
    if #page < 1000 then break end
    from = '(' .. page[#page][1]
  end
  note_clock()
end

-- A second is less than a lease, and more than what NTP corrects.
if tonumber(redis.call('HGET', ledger, 'clock') or 0) > now_ms() + 1000 then restart_leases() end

for _, pending in ipairs(redis.call('XPENDING', stream, group, 'IDLE', lease, '-', '+', max)) do
  if leased >= max or bytes >= max_bytes then break end
  local entry, deliveries = pending[1], pending[4]
  local fields = fields_of(stream, entry)
  if not fields or #fields < DATA then
    -- Someone deleted it by hand, or it is no job at all and no worker could finish it.
    remove_entry(group, entry)
  else
    local attempts_left = max_attempts - (tonumber(fields[ATTEMPTS]) or 0) - deliveries
    local batch_limit = batch_limits[attempts_left] or math.huge
    if in_batch + leased < batch_limit then
      -- A failed attempt that waits for its next has passed to this one (fail.lua), and its lease did not run out.
      if pending[2] ~= 'nobody' then ran_out = ran_out + 1 end
      redis.call('XCLAIM', stream, group, consumer, 0, entry)
      add_lease(entry, tostring(deliveries + 1), fields)
      max = math.min(max, batch_limit - in_batch)
    end
  end
end

-- A few at a time: how large a text is shows only when it is delivered, and then it is leased. No more than have room if they are as
-- large as the largest so far. (One at a time costs Redis 6.5 us each, measured on 2026-11-23 with 7.0; four at a time 3.5 us; eight
-- 0.6 us less than four, on another machine.)
local more = true
while more and leased < max and bytes < max_bytes do
  local step = math.min(leased == 0 and 4 or 8, max - leased, math.ceil((max_bytes - bytes) / largest))
  local read = redis.call('XREADGROUP', 'GROUP', group, consumer, 'COUNT', step, 'STREAMS', stream, '>')
  local entries = read and read[1][2] or {}
  for _, entry in ipairs(entries) do add_lease(entry[1], '1', entry[2]) end
  more = #entries == step
end

-- Before 7.2 Redis notes neither a consumer nor when it was here if there is nothing for it; but it does where the consumer reads again
-- what it holds: here from the last id but one that there can be, so nothing (the last one means `>`). So operators see who waits.
if leased == 0 then
  redis.call('XREADGROUP', 'GROUP', group, consumer, 'COUNT', 1, 'STREAMS', stream, '18446744073709551615-18446744073709551614')
end

-- An entry is either yet to be delivered or leased, and nothing is to be delivered any more: so the counts are equal, unless
-- the group was set past entries (by XGROUP SETID, or by what was left of an append-only file). Those would wait for ever.
-- Looking for them passes no more than the leased ones.
local from, passed = '-', more and 0 or redis.call('XLEN', stream) - redis.call('XPENDING', stream, group)[1]
while passed > 0 and leased < max and bytes < max_bytes do
  local entries = redis.call('XRANGE', stream, from, '+', 'COUNT', 4)
  if #entries == 0 then break end
  for _, entry in ipairs(entries) do
    from = '(' .. entry[1]
    if not redis.call('XPENDING', stream, group, entry[1], entry[1], 1)[1] then
      redis.call('XCLAIM', stream, group, consumer, 0, entry[1], 'RETRYCOUNT', 1, 'FORCE')
      add_lease(entry[1], '1', entry[2])
      passed = passed - 1
      if leased >= max or bytes >= max_bytes then break end
    end
  end
end
more = more or passed > 0
if leased > 0 then note_clock() end
if more then wake() end
return { more and 1 or 0, max - leased, ran_out, cmsgpack.pack(leases) }
