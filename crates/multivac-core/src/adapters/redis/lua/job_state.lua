-- Where an unfinished job stands.
--
-- ARGV: group, id. Returns 'queued', 'processing', 'dead', or nothing.
local mark, entry = find_job(ARGV[2])
-- A job whose entry someone deleted by hand is nowhere; repair.lua forgets it.
if not mark or not fields_of(mark == 'd' and dead or stream, entry) then return false end
if mark == 'd' then return 'dead' end
local pending = redis.call('XPENDING', stream, ARGV[1], entry, entry, 1)
return pending[1] and 'processing' or 'queued'
