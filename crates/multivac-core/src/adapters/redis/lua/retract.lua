-- Enters a retraction into the ledger, once for each id.
--
-- KEYS after the partition's: the key that is set when this was done.
-- ARGV: id, 1 if a learned datum was retracted and no other partition knows the id, the lifetime of that key in seconds.
-- Returns 1 when the retraction is in the ledger, or will be when the job is completed; 0 when the id is unknown here.
local id, was_learned, lifetime, done = ARGV[1], ARGV[2] == '1', ARGV[3], KEYS[6]
if redis.call('EXISTS', done) == 1 then return 1 end
write_at_maxmemory()

local mark, entry = find_job(id)
if mark == 'd' then
  redis.call('XDEL', dead, entry)
  redis.call('HDEL', jobs, id)
  add('retracted', 1)
elseif mark then
  redis.call('HSET', jobs, id, 'r' .. entry)
elseif was_learned then
  add('learned', -1)
  add('retracted', 1)
else
  return 0
end
redis.call('SET', done, mark == 'd' and entry or '', 'EX', lifetime)
return 1
