-- Brings the ids of unfinished jobs, the streams and the ledger in line, a part at each call, where they do not fit together:
-- someone deleted keys or entries by hand, Redis evicted them, or it executed a half of what a script wrote, from an
-- append-only file that was torn. Where nothing is wrong it costs a few lengths.
--
-- ARGV: group; where to go on, '' at first.
-- Returns where to go on, '' at the end; how many jobs were lost, of which nothing is left; how many were found, of which
-- something was missing.
local group, phase, cursor = ARGV[1], ARGV[2]:sub(1, 1), ARGV[2]:sub(2)
local lost, retracted, found = 0, 0, 0
write_at_maxmemory()

local function entry_exists(key, entry)
  local found = redis.pcall('XRANGE', key, entry, entry)
  if not found.err then return found[1] ~= nil end
  -- What is no id of an entry is none. No other error says that it is not there.
  if not found.err:find('Invalid stream ID', 1, true) then error(found.err) end
end

if phase == '' then
  local _, _, missing = count_entries()
  if missing == 0 then
    -- Each script keeps the balance. Where it is lost, the ledger is what is wrong, since ids and entries fit together.
    local counts = counts_of(group)
    local sum = counts[2] + counts[3] + counts[4] + counts[5] + counts[6]
    if counts[1] ~= sum then redis.call('HSET', ledger, 'accepted', sum) end
    return { '', math.max(counts[1] - sum, 0), math.max(sum - counts[1], 0) }
  end
  phase, cursor = 'j', '0'
end

-- First the ids without an entry.
if phase == 'j' then
  local page = redis.call('HSCAN', jobs, cursor, 'COUNT', 100)
  for i = 1, #page[2], 2 do
    local id, mark, entry = page[2][i], page[2][i + 1]:sub(1, 1), page[2][i + 1]:sub(2)
    if not entry_exists(mark == 'd' and dead or stream, entry) then
      redis.call('HDEL', jobs, id)
      -- A lease of it may be left. The streams number their entries each for itself.
      if mark ~= 'd' then redis.pcall('XACK', stream, group, entry) end
      -- The text of what was retracted is gone as it was to be.
      if mark == 'r' then retracted = retracted + 1 else lost = lost + 1 end
    end
  end
  if lost > 0 then add('accepted', -lost) end
  if retracted > 0 then add('retracted', retracted) end
  return { page[1] ~= '0' and 'j' .. page[1] or 's-', lost, found }
end

-- Then the entries to which no id leads, or the id to another one.
local key, mark = stream, 'q'
if phase == 'd' then key, mark = dead, 'd' end
local entries = redis.call('XRANGE', key, cursor, '+', 'COUNT', 100)
for _, entry in ipairs(entries) do
  cursor = '(' .. entry[1]
  local fields = entry[2]
  if fields[1] == 'id' and #fields >= DATA then
    local job_mark, job_entry = find_job(fields[ID])
    if not job_mark then
      redis.call('HSET', jobs, fields[ID], mark .. entry[1])
      found = found + 1
    elseif (job_mark == 'd') ~= (mark == 'd') or job_entry ~= entry[1] then
      redis.call('XACK', key, group, entry[1])
      redis.call('XDEL', key, entry[1])
    end
  end
end
-- Some may have been finished before, so they may come to be counted twice; see reconcile.lua.
if found > 0 then add('doubtful', found) end
if #entries > 0 then return { phase .. cursor, lost, found } end
return { phase == 's' and 'd-' or '', lost, found }
