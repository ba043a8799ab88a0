-- Removes consumers whose process has ended: every start of a process brings a new one. A consumer that still has leases
-- stays until others have taken them over, since removing it would lose them. One that is alive after all is made again
-- when it leases next.
--
-- ARGV: group, how long (ms) a consumer has been idle when its process must have ended.
-- A write in any case, so that the start waits for a Redis that takes none, such as a replica.
write_at_maxmemory()
for _, consumer in ipairs(redis.call('XINFO', 'CONSUMERS', stream, ARGV[1])) do
  local is = {}
  for i = 1, #consumer, 2 do is[consumer[i]] = consumer[i + 1] end
  if is.pending == 0 and is.idle > tonumber(ARGV[2]) then
    redis.call('XGROUP', 'DELCONSUMER', stream, ARGV[1], is.name)
  end
end
