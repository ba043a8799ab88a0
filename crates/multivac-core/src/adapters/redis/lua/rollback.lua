-- Takes jobs off the stream again that were accepted a moment ago and did not become durable, unless someone has them.
--
-- It deletes entries that nobody has leased, which nothing else does: until the group has read past them, its lag in
-- XINFO is unknown.
--
-- KEYS after the partition's: where the answer to the call that accepted them is remembered; the idempotency keys.
-- ARGV: group; then of each job: id, its position in that call, and the place of its idempotency key among them, or 0.
-- Returns for each job '-' (it never was there), '+' (it is finished), '?' (a worker has it, or it is dead, or another
-- call was told of it), or '0' (nothing is known of it here, such as after a failover).
local results, answers = {}, {}
for answer in (redis.call('GET', KEYS[6]) or ''):gmatch('%S+') do answers[#answers + 1] = answer end

for i = 2, #ARGV, 3 do
  local id, position, place = ARGV[i], tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2])
  local mark, entry = noted(id)
  local result = '?'
  if not mark then
    -- Withdrawn by this very call, made before, or finished.
    result = answers[position] or '0'
  elseif mark == 'q' and not redis.call('XPENDING', stream, ARGV[1], entry, entry, 1)[1]
    and (place == 0 or redis.call('GET', KEYS[6 + place]) == id) then
    local fields = fields_of(stream, entry)
    redis.call('XDEL', stream, entry)
    redis.call('HDEL', jobs, id)
    redis.call('HINCRBY', ledger, 'accepted', -1)
    redis.call('HINCRBY', ledger, 'bytes', -#fields[DATA])
    if place > 0 then redis.call('DEL', KEYS[6 + place]) end
    -- Should the accepting call come again, it is refused.
    if answers[position] then answers[position] = '-' end
    result = '-'
  end
  results[#results + 1] = result
end
if #answers > 0 then redis.call('SET', KEYS[6], table.concat(answers, ' '), 'KEEPTTL') end
return results
