-- Gives up an attempt: buries the job after its last, or else lets its lease run out in good time.
--
-- ARGV: group, consumer, entry, delivery, id, attempt, 1 if it was the last, error,
-- how long (ms) the entry counts as idle already, now in ms.
-- Returns 1 when the job is dead.
local group, consumer, entry, delivery, id = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local attempt, last, error, idle, now = ARGV[6], ARGV[7] == '1', ARGV[8], ARGV[9], ARGV[10]

-- Moves the entry to the dead letters. A job that was retracted is done with instead: nobody wants its text.
local function dead_letter(fields)
  forget(group, entry)
  drained(1, #fields[DATA])
  if noted(id) == 'r' then
    redis.call('HDEL', jobs, id)
    redis.call('HINCRBY', ledger, 'retracted', 1)
    return
  end
  fields[ATTEMPTS] = attempt
  for _, more in ipairs({ 'error', error, 'died_at', now }) do fields[#fields + 1] = more end
  local letter = redis.call('XADD', dead, '*', unpack(fields))
  redis.call('HSET', jobs, id, 'd' .. letter)
end

if not holds(group, consumer, entry, delivery) then
  -- Another has it by now, or this very call was made before.
  return noted(id) == 'd' and 1 or 0
end
if last then
  dead_letter(fields_of(stream, entry))
  return 1
end
-- To nobody: whoever extends the leases of the batch that it came with is not to put it off.
redis.call('XCLAIM', stream, group, 'nobody', 0, entry, 'IDLE', idle, 'JUSTID')
return 0
