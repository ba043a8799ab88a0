-- Tries every command that the other scripts use, on a key that nobody has and that is deleted again at once.
--
-- KEYS: that key alone. Returns the name and the error of each command that failed: of some, only since the key holds nothing.
local key = KEYS[1]
local failed = {}

local function try(...)
  local reply = redis.pcall(...)
  if type(reply) == 'table' and reply.err then
    failed[#failed + 1] = (...)
    failed[#failed + 1] = reply.err
    return false
  end
  return true
end

-- First, so that nothing is left where it is not allowed; nor is anything written where Redis takes no writes now.
if not try('DEL', key) then return failed end

try('SET', key, '1')
try('GET', key)
try('EXPIRE', key, 60)
try('EXISTS', key)
try('TYPE', key)
try('DEL', key)

try('HSET', key, 'field', '1')
try('HINCRBY', key, 'field', 1)
try('HGET', key, 'field')
try('HMGET', key, 'field')
try('HLEN', key)
try('HVALS', key)
try('HSCAN', key, '0')
try('HDEL', key, 'field')
try('DEL', key)

try('RPUSH', key, '')
try('DEL', key)

try('XADD', key, '1-1', 'field', '1')
try('XLEN', key)
try('XRANGE', key, '-', '+')
try('XPENDING', key, 'none')
try('XREADGROUP', 'GROUP', 'none', 'nobody', 'COUNT', 1, 'STREAMS', key, '>')
try('XCLAIM', key, 'none', 'nobody', 0, '1-1')
try('XACK', key, 'none', '1-1')
try('XINFO', 'CONSUMERS', key, 'none')
try('XGROUP', 'DELCONSUMER', key, 'none', 'nobody')
try('XDEL', key, '1-1')
try('DEL', key)

try('TIME')
try('INFO', 'replication')
return failed
