-- Which replicas may hold what is written now.
--
-- KEYS after the partition's: where the reply to an accepting call is kept.
-- Returns the id of this history of writes (another one after a failover or a restart), how many replicas are connected, how
-- often one was connected anew since the start, and 1 if the accepting call was executed before; nothing where INFO may not
-- be used.
local info = ''
for _, section in ipairs({ 'replication', 'stats' }) do
  local text = redis.pcall('INFO', section)
  if type(text) ~= 'string' then return {} end
  info = info .. text
end
local function field(name) return info:match('\n' .. name .. ':(%w+)') or '0' end
return {
  field('master_replid'),
  field('connected_slaves'),
  string.format('%d', field('sync_full') + field('sync_partial_ok')),
  string.format('%d', redis.call('EXISTS', KEYS[6])),
}
