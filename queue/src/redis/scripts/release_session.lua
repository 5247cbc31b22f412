-- Gives a claimed session back: entry, state and the `Released` event together. An orderly return is not the
-- session's fault, so it does not count as an attempt.
-- KEYS sessions, session, inbox. ARGV worker, entry, id, parcel, session ttl, inbox entries, inbox ttl.
if holder(KEYS[1], ARGV[2]) ~= ARGV[1] then return 0 end
drop(KEYS[1], ARGV[2])
local s = redis.call('HMGET', KEYS[2], 'entry', 'attempts')
if s[1] ~= ARGV[2] then return 0 end
local again = push(KEYS[1], ARGV[5], 'session', ARGV[3])
redis.call('HSET', KEYS[2], 'entry', again, 'worker', '', 'attempts', math.max(0, s[2] - 1))
redis.call('HINCRBY', KEYS[2], 'revision', 1)
redis.call('PEXPIRE', KEYS[2], ARGV[5])
post(KEYS[3], ARGV[6], ARGV[7], ARGV[4])
return 1
