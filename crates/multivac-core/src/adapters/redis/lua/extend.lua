-- Starts the time of leases anew, where they are still in force.
--
-- ARGV: group, consumer; then of each lease: entry, delivery.
local extended = false
for i = 3, #ARGV, 2 do
  if holds_lease(ARGV[1], ARGV[2], ARGV[i], ARGV[i + 1]) then
    -- JUSTID, so that this does not count as a delivery.
    redis.call('XCLAIM', stream, ARGV[1], ARGV[2], 0, ARGV[i], 'JUSTID')
    extended = true
  end
end
if extended then note_clock() end
