-- Takes jobs off the stream that were accepted a moment ago and did not become durable, where nobody has leased them.
--
-- It deletes entries that were never delivered, which nothing else does but complete.lua after the group was lost: until the
-- group has read past them, XINFO cannot tell its lag.
--
-- KEYS after the partition's: where the reply to the call that accepted them is kept; the idempotency keys.
-- ARGV: group; then of each job: id, its position in that call, and the place of its idempotency key among them, or 0; at
-- the end, from when to when it may be executed. Executed later it would take off a job that the same call of accept,
-- made again, has reported as accepted.
-- Returns for each job, with spaces between them
--   '~' (rolled back): it is off the stream;
--   '-' (refused): it was never on it;
--   '+' (finished): a worker has stored it;
--   '?' (kept): a worker has leased it, it is dead, or another call has reported it as accepted;
--   '0' (unknown): neither the job nor the call is known here, as after a failover.
local late = late_reply()
if late then return late end

write_at_maxmemory()
local results, kept_reply = {}, {}
for result in (redis.call('GET', KEYS[6]) or ''):gmatch('%S+') do kept_reply[#kept_reply + 1] = result end

-- Whether an idempotency key stands for this job, and no other call has reported it as accepted.
local function is_ours_alone(key, id)
  local first = redis.call('GET', key) or ''
  return first:match('^%S+') == id and first:sub(-1) ~= ' '
end

for i = 2, #ARGV, 3 do
  local id, position, place = ARGV[i], tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2])
  local mark, entry = find_job(id)
  local result = '?'
  if not mark then
    -- It is finished (the kept reply still says '+'), or this very call was made before and wrote '~' there.
    result = kept_reply[position] or '0'
  elseif mark == 'q' and not redis.call('XPENDING', stream, ARGV[1], entry, entry, 1)[1]
    and (place == 0 or is_ours_alone(KEYS[6 + place], id)) then
    local fields = fields_of(stream, entry)
    redis.call('XDEL', stream, entry)
    redis.call('HDEL', jobs, id)
    add('accepted', -1)
    add('bytes', fields and -#fields[DATA] or 0)
    if place > 0 then redis.call('DEL', KEYS[6 + place]) end
    -- Should the accepting call come again, it is told so.
    if kept_reply[position] then kept_reply[position] = '~' end
    result = '~'
  end
  results[#results + 1] = result
end
if #kept_reply > 0 then redis.call('SET', KEYS[6], table.concat(kept_reply, ' '), 'KEEPTTL') end
return table.concat(results, ' ')
