-- Removes consumers that are gone for good: every process start brings a new one. One that still has leases stays, and
-- so do its leases until others take them over; one that is alive after all is made again when it leases next.
--
-- ARGV: group, silence in ms after which a consumer is gone.
for _, consumer in ipairs(redis.call('XINFO', 'CONSUMERS', stream, ARGV[1])) do
  local is = {}
  for i = 1, #consumer, 2 do is[consumer[i]] = consumer[i + 1] end
  if is.pending == 0 and is.idle > tonumber(ARGV[2]) then
    redis.call('XGROUP', 'DELCONSUMER', stream, ARGV[1], is.name)
  end
end
