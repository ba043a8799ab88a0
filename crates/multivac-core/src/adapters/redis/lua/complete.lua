-- Takes finished jobs off the stream, and enters each into the ledger once. For one that was completed before, or released,
-- nothing happens. A dead letter is removed: its datum is in the store after all.
--
-- ARGV: group; then as one text (packed.rs), of each job: entry, id, 'learned' or 'retracted', bytes of its text. No more jobs
-- than unpack() can take (some 7,000).
local given, ids = cmsgpack.unpack(ARGV[2]), {}
for i = 2, #given, 4 do ids[#ids + 1] = given[i] end
local found = redis.call('HMGET', jobs, unpack(ids))

-- Whether this call is the one that finishes the entry. That of an unfinished job is; of any other one it shows in whether
-- somebody still had it.
local done = {}
local function finishes(entry, is_of_job)
  if done[entry] then return false end
  done[entry] = true
  return is_of_job or redis.call('XACK', stream, ARGV[1], entry) == 1
end

local entries, acknowledged, finished, bytes = {}, {}, {}, 0
local counts = { learned = 0, retracted = 0 }
for i, id in ipairs(ids) do
  local entry, outcome = given[4 * i - 3], given[4 * i - 1]
  local mark, job_entry
  if found[i] then mark, job_entry = found[i]:sub(1, 1), found[i]:sub(2) end
  local is_of_job = job_entry == entry and mark ~= 'd'
  if finishes(entry, is_of_job) then
    entries[#entries + 1], bytes = entry, bytes + tonumber(given[4 * i])
    if is_of_job then acknowledged[#acknowledged + 1] = entry end
    -- A second entry of a job, which Redis made from a half of what a script wrote, counts for nothing.
    if is_of_job or not mark then
      if mark == 'r' then outcome = 'retracted' end
      counts[outcome] = counts[outcome] + 1
      finished[#finished + 1] = id
    end
  elseif mark == 'd' and redis.call('HDEL', jobs, id) == 1 then
    redis.call('XDEL', dead, job_entry)
    add(outcome, 1)
  end
end
if #entries == 0 then return end
if #acknowledged > 0 then redis.call('XACK', stream, ARGV[1], unpack(acknowledged)) end
redis.call('XDEL', stream, unpack(entries))
count_drained(#entries, bytes)
if #finished == 0 then return end
redis.call('HDEL', jobs, unpack(finished))
add('learned', counts.learned)
add('retracted', counts.retracted)
