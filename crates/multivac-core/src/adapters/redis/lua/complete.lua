-- Takes finished jobs off the stream. Whoever acknowledges an entry first enters it into the ledger; for all others,
-- and for one that was given back, nothing happens. A dead letter goes: its datum is in the store after all.
--
-- ARGV: group; then of each job: entry, id, 'learned' or 'retracted', bytes of its text. No more jobs than unpack() can
-- take (some 7,000).
local entries, ids, outcomes, bytes = {}, {}, {}, 0
for i = 2, #ARGV, 4 do
  if redis.call('XACK', stream, ARGV[1], ARGV[i]) == 1 then
    entries[#entries + 1], ids[#ids + 1], outcomes[#outcomes + 1] = ARGV[i], ARGV[i + 1], ARGV[i + 2]
    bytes = bytes + tonumber(ARGV[i + 3])
  else
    local mark, letter = noted(ARGV[i + 1])
    if mark == 'd' then
      redis.call('XDEL', dead, letter)
      redis.call('HDEL', jobs, ARGV[i + 1])
      redis.call('HINCRBY', ledger, ARGV[i + 2], 1)
    end
  end
end
if #entries == 0 then return end

local counts = { learned = 0, retracted = 0 }
for i, note in ipairs(redis.call('HMGET', jobs, unpack(ids))) do
  local outcome = note and note:sub(1, 1) == 'r' and 'retracted' or outcomes[i]
  counts[outcome] = counts[outcome] + 1
end
redis.call('XDEL', stream, unpack(entries))
drained(#entries, bytes)
redis.call('HDEL', jobs, unpack(ids))
redis.call('HINCRBY', ledger, 'learned', counts.learned)
redis.call('HINCRBY', ledger, 'retracted', counts.retracted)
