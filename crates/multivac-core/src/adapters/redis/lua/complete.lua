-- Takes finished jobs off the stream. The first to acknowledge an entry enters it into the ledger; for all others, and
-- for a job that was released, nothing happens. A dead letter is removed: its datum is in the store after all.
--
-- ARGV: group; then of each job: entry, id, 'learned' or 'retracted', bytes of its text. No more jobs than unpack() can
-- take (some 7,000).
local entries, ids, outcomes, bytes = {}, {}, {}, 0
for i = 2, #ARGV, 4 do
  local entry, id, outcome = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  if redis.call('XACK', stream, ARGV[1], entry) == 1 then
    entries[#entries + 1], ids[#ids + 1], outcomes[#outcomes + 1] = entry, id, outcome
    bytes = bytes + tonumber(ARGV[i + 3])
  else
    local mark, dead_entry = find_job(id)
    if mark == 'd' then
      redis.call('XDEL', dead, dead_entry)
      redis.call('HDEL', jobs, id)
      add(outcome, 1)
    end
  end
end
if #entries == 0 then return end

local counts, finished = { learned = 0, retracted = 0 }, {}
for i, job in ipairs(redis.call('HMGET', jobs, unpack(ids))) do
  -- A second entry of a job, which Redis made from a half of what a script wrote, counts for nothing.
  if not job or job:sub(2) == entries[i] then
    local outcome = job and job:sub(1, 1) == 'r' and 'retracted' or outcomes[i]
    counts[outcome] = counts[outcome] + 1
    finished[#finished + 1] = ids[i]
  end
end
redis.call('XDEL', stream, unpack(entries))
count_drained(#entries, bytes)
if #finished == 0 then return end
redis.call('HDEL', jobs, unpack(finished))
add('learned', counts.learned)
add('retracted', counts.retracted)
