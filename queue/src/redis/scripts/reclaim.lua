-- Claims entries whose holder has not renewed them for a lease, oldest first; looks who held them before.
-- (XAUTOCLAIM would do the same but tell neither the former holder nor the number of deliveries.)
-- Also forgets consumers of workers long gone, or the group would grow with every worker ever started.
-- KEYS stream. ARGV worker, lease, count, stale (ms). Returns {id, fields, deliveries, former holder} each.
local found = redis.pcall('XPENDING', KEYS[1], GROUP, 'IDLE', ARGV[2], '-', '+', ARGV[3])
if found.err then return {} end
local taken = {}
for _, row in ipairs(found) do
  local entry = redis.call('XCLAIM', KEYS[1], GROUP, ARGV[1], ARGV[2], row[1])
  if entry[1] and entry[1][2] then
    taken[#taken + 1] = {row[1], entry[1][2], row[4] + 1, row[2]}
  else
    redis.call('XACK', KEYS[1], GROUP, row[1])
  end
end
local consumers = redis.pcall('XINFO', 'CONSUMERS', KEYS[1], GROUP)
if consumers.err then return taken end
for _, row in ipairs(consumers) do
  local of = {}
  for i = 1, #row, 2 do of[row[i]] = row[i + 1] end
  if of['pending'] == 0 and of['idle'] > tonumber(ARGV[4]) and of['name'] ~= ARGV[1] then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], GROUP, of['name'])
  end
end
return taken
