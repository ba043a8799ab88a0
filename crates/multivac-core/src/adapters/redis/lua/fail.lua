-- Ends an attempt that failed: moves the job to the dead letters after its last, and otherwise lets its lease run out when
-- the next attempt is due.
--
-- ARGV: group, consumer, entry, delivery, id, attempt, 1 if it was the last, error,
-- how long (ms) the entry counts as idle already, now in ms.
-- Returns 1 when the job is dead.
local group, consumer, entry, delivery, id = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local attempt, last, error, idle, now = ARGV[6], ARGV[7] == '1', ARGV[8], ARGV[9], ARGV[10]

-- A job that was retracted is finished instead: its text is not to be kept.
local function dead_letter(fields)
  if find_job(id) == 'r' then
    redis.call('HDEL', jobs, id)
    add('retracted', 1)
  else
    fields[ATTEMPTS] = attempt
    for _, more in ipairs({ 'error', error, 'died_at', now }) do fields[#fields + 1] = more end
    -- A write that needs no memory: after it Redis lets others through though its memory is full, and what is moved needs
    -- none in the end.
    redis.call('HDEL', jobs, '')
    -- Before its entry is removed: from an append-only file that was torn in between Redis makes two of it, and not none.
    local dead_entry = redis.call('XADD', dead, '*', unpack(fields))
    redis.call('HSET', jobs, id, 'd' .. dead_entry)
  end
  remove_entry(group, entry)
  count_drained(1, #fields[DATA])
end

if not holds_lease(group, consumer, entry, delivery) then
  -- Another consumer has it by now, or this very call was made before.
  return find_job(id) == 'd' and 1 or 0
end
if last then
  local fields = fields_of(stream, entry)
  -- Someone deleted the entry by hand.
  if not fields then return 0 end
  dead_letter(fields)
  return 1
end
-- The entry passes to a consumer that no process uses, so that extending the other leases of its batch leaves it alone.
-- Its name is stored in Redis and stays as it is, so that an old and a new version of the program share that consumer.
redis.call('XCLAIM', stream, group, 'nobody', 0, entry, 'IDLE', idle, 'JUSTID')
return 0
