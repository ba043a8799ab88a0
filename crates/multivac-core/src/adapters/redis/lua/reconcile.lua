-- Adds to what the ledger counts, unless it changed since it was read.
--
-- The sum is never reduced: if the store holds less than was counted, it has lost data, and the ledger is to show that. But for
-- jobs that repair.lua found again: each may have been counted twice.
--
-- ARGV: group, more learned, more retracted; then what was read, as ledger.lua returned it.
-- Returns 1 when it was done, and 0 when not.
for i, number in ipairs(counts_of(ARGV[1])) do
  if number ~= tonumber(ARGV[3 + i]) then return 0 end
end
local more, doubtful = ARGV[2] + ARGV[3], tonumber(redis.call('HGET', ledger, 'doubtful') or 0)
if more + doubtful < 0 then return 0 end
add('learned', ARGV[2])
add('retracted', ARGV[3])
add('accepted', more)
redis.call('HDEL', ledger, 'doubtful')
return 1
