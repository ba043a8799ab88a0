-- Adds to what the ledger counts, unless it changed since it was read.
--
-- ARGV: group, more learned, more retracted; then what was read, as ledger.lua returned it.
-- Returns 1 when it was done, and 0 when the ledger has changed.
for i, number in ipairs(counts_of(ARGV[1])) do
  if number ~= tonumber(ARGV[3 + i]) then return 0 end
end
write_at_maxmemory()
redis.call('HINCRBY', ledger, 'learned', ARGV[2])
redis.call('HINCRBY', ledger, 'retracted', ARGV[3])
redis.call('HINCRBY', ledger, 'accepted', ARGV[2] + ARGV[3])
return 1
