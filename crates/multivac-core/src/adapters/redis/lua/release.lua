-- Returns leased jobs as if they had never been leased. Each becomes a new entry, since Redis cannot undo a delivery.
--
-- ARGV: group, consumer; then of each lease: entry, delivery, attempts used before it.
for i = 3, #ARGV, 3 do
  local entry = ARGV[i]
  if holds_lease(ARGV[1], ARGV[2], entry, ARGV[i + 1]) then
    local fields = fields_of(stream, entry)
    -- Without fields someone deleted it by hand.
    if fields then
      fields[ATTEMPTS] = ARGV[i + 2]
      local new_entry = redis.call('XADD', stream, '*', unpack(fields))
      redis.call('HSET', jobs, fields[ID], (find_job(fields[ID]) or 'q') .. new_entry)
      remove_entry(ARGV[1], entry)
      wake()
    end
  end
end
