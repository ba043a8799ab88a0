-- Puts a dead letter back on the stream with all its attempts before it.
--
-- KEYS after the partition's: the key that keeps where it stood.
-- ARGV: id, the lifetime of that key in seconds. Returns 1, or 0 when there is none.
local id = ARGV[1]
local mark, dead_entry = find_job(id)
if mark ~= 'd' then return 0 end
write_at_maxmemory()
local fields = fields_of(dead, dead_entry)
if not fields then return 0 end -- someone deleted it by hand
fields[ATTEMPTS] = 0
local entry = redis.call('XADD', stream, '*', unpack(fields, 1, #fields - 4)) -- without error and died_at
redis.call('HSET', jobs, id, 'q' .. entry)
redis.call('XDEL', dead, dead_entry)
redis.call('SET', KEYS[6], dead_entry, 'EX', ARGV[2])
add('bytes', #fields[DATA])
wake()
return 1
