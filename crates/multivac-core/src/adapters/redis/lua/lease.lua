-- Leases jobs to a consumer: first those whose lease ran out, or whose next attempt is due, then new ones.
--
-- ARGV: group, consumer, jobs at most, bytes of text at most, lease in ms, attempts at most, jobs that it has already,
-- how many jobs may come together with one that has one attempt left, with two, with three.
-- Returns whether more may be waiting, how many more may go with these, and of each job: its entry, which delivery of it
-- this is, its fields.
local group, consumer, max, max_bytes = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local lease, max_attempts, held = ARGV[5], tonumber(ARGV[6]), tonumber(ARGV[7])
local leases, bytes = {}, 0

-- With a job that has so many attempts left, so many go at most: what ends its worker every time takes fewer and fewer
-- with it, and to the dead letters it goes alone.
local batch_limits = { tonumber(ARGV[8]), tonumber(ARGV[9]), tonumber(ARGV[10]) }

local function lend(entry, delivery, fields)
  leases[#leases + 1] = { entry, delivery, fields }
  bytes = bytes + #(fields[DATA] or '')
end

for _, pending in ipairs(redis.call('XPENDING', stream, group, 'IDLE', lease, '-', '+', max)) do
  if #leases >= max or bytes >= max_bytes then break end
  local entry, deliveries = pending[1], pending[4]
  local fields = fields_of(stream, entry)
  if not fields or #fields < DATA then
    forget(group, entry) -- someone deleted it by hand, or it is no job, and nobody can deal with it
  else
    local most = batch_limits[max_attempts - (tonumber(fields[ATTEMPTS]) or 0) - deliveries] or math.huge
    if held + #leases < most then
      redis.call('XCLAIM', stream, group, consumer, 0, entry)
      lend(entry, deliveries + 1, fields)
      max = math.min(max, most - held)
    end
  end
end

-- A few at a time: how large a text is shows only when it is delivered, and then it is leased. (One at a time costs
-- Redis 6.5 us each, measured on 2026-11-23 with 7.0; four at a time 3.5 us.)
local more = true
while more and #leases < max and bytes < max_bytes do
  local step = math.min(4, max - #leases)
  local read = redis.call('XREADGROUP', 'GROUP', group, consumer, 'COUNT', step, 'STREAMS', stream, '>')
  local entries = read and read[1][2] or {}
  for _, entry in ipairs(entries) do lend(entry[1], 1, entry[2]) end
  more = #entries == step
end
if more then wake() end
return { more and 1 or 0, max - #leases, leases }
