-- Puts a dead letter back on the stream with all its attempts before it.
--
-- ARGV: id. Returns 1, or 0 when there is none.
local id = ARGV[1]
local mark, dead_entry = find_job(id)
if mark ~= 'd' then return 0 end
local fields = fields_of(dead, dead_entry)
if not fields then return 0 end -- someone deleted it by hand
fields[ATTEMPTS] = 0
local entry = redis.call('XADD', stream, '*', unpack(fields, 1, #fields - 4)) -- without error and died_at
redis.call('HSET', jobs, id, 'q' .. entry)
redis.call('XDEL', dead, dead_entry)
add('bytes', #fields[DATA])
wake()
return 1
