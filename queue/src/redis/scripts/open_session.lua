-- Admits a session: state and entry together, and the limit holds exactly. Safe to repeat.
-- KEYS sessions, session, gateway. ARGV id, opened, limit, lease, session ttl, gateway ttl.
-- Returns {accepted, waiting}.
if redis.call('EXISTS', KEYS[2]) == 1 then return {1, 0} end
local waits = waiting(KEYS[1], ARGV[4], tonumber(ARGV[5]), now_ms())
if waits >= tonumber(ARGV[3]) then return {0, waits} end
local entry = push(KEYS[1], ARGV[5], 'session', ARGV[1])
redis.call('HSET', KEYS[2], 'opened', ARGV[2], 'entry', entry, 'revision', 0, 'epoch', 0, 'worker', '',
  'attempts', 0, 'segments', 0, 'committed_samples', 0, 'committed_text', '')
redis.call('PEXPIRE', KEYS[2], ARGV[5])
redis.call('SET', KEYS[3], '1', 'PX', ARGV[6])
return {1, waits}
