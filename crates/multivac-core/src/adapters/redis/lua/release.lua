-- Returns leased jobs as if they had never been leased: each becomes a new entry, since Redis cannot take a delivery back.
--
-- ARGV: group, consumer; then of each lease: entry, delivery, attempts used before it.
for i = 3, #ARGV, 3 do
  local entry = ARGV[i]
  if holds(ARGV[1], ARGV[2], entry, ARGV[i + 1]) then
    local fields = fields_of(stream, entry)
    fields[ATTEMPTS] = ARGV[i + 2]
    local again = redis.call('XADD', stream, '*', unpack(fields))
    redis.call('HSET', jobs, fields[ID], (noted(fields[ID]) or 'q') .. again)
    forget(ARGV[1], entry)
    wake()
  end
end
