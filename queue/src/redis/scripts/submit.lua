-- Admits a job: the limit holds exactly even when many gateways submit at once. Safe to repeat: a job that is
-- over already is not run again. Audio that nobody will fetch goes at once.
-- KEYS jobs, job, gateway, audio. ARGV payload, limit, lease, job ttl, gateway ttl (ms). Returns {accepted, waiting}.
local known = redis.call('GET', KEYS[2])
if known == 'done' then redis.call('DEL', KEYS[4]) end
if known then return {1, 0} end
local waits = waiting(KEYS[1], ARGV[3], tonumber(ARGV[4]), now_ms())
if waits >= tonumber(ARGV[2]) then
  redis.call('DEL', KEYS[4])
  return {0, waits}
end
local id = push(KEYS[1], ARGV[4], 'job', ARGV[1], 'attempts', 0)
redis.call('SET', KEYS[2], id, 'PX', ARGV[4])
redis.call('SET', KEYS[3], '1', 'PX', ARGV[5])
return {1, waits}
