-- Renews a gateway's registration, and its sign of life for the workers.
-- KEYS gateway, inbox, record, gateways, changes. ARGV id, record, gateway ttl, inbox ttl.
redis.call('SET', KEYS[1], '1', 'PX', ARGV[3])
redis.call('PEXPIRE', KEYS[2], ARGV[4])
if redis.call('GET', KEYS[3]) ~= ARGV[2] then announce(KEYS[5], ARGV[4]) end
redis.call('SET', KEYS[3], ARGV[2], 'PX', ARGV[3])
local now = now_ms()
redis.call('ZREMRANGEBYSCORE', KEYS[4], '-inf', now)
redis.call('ZADD', KEYS[4], now + ARGV[3], ARGV[1])
redis.call('PEXPIRE', KEYS[4], ARGV[4])
return 1
