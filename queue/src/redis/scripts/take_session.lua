-- Makes a claim of a session good: owner, next epoch and the `Claimed` event together. The event was written
-- for one revision of the state (it says where to resume), so nothing may have changed since it was read.
-- KEYS sessions, session, gateway, inbox. ARGV worker, entry, revision, epoch, parcel, session ttl,
-- inbox entries, inbox ttl. Returns 'taken', 'changed' (read again), 'parked' (its gateway is gone) or 'lost'.
if holder(KEYS[1], ARGV[2]) ~= ARGV[1] then return 'lost' end
local s = redis.call('HMGET', KEYS[2], 'revision', 'entry')
if s[2] ~= ARGV[2] then
  drop(KEYS[1], ARGV[2])
  return 'lost'
end
if s[1] ~= ARGV[3] then return 'changed' end
redis.call('HINCRBY', KEYS[2], 'revision', 1)
redis.call('PEXPIRE', KEYS[2], ARGV[6])
if redis.call('EXISTS', KEYS[3]) == 0 then
  drop(KEYS[1], ARGV[2])
  redis.call('HSET', KEYS[2], 'entry', '', 'worker', '')
  return 'parked'
end
redis.call('HSET', KEYS[2], 'worker', ARGV[1], 'epoch', ARGV[4])
redis.call('HINCRBY', KEYS[2], 'attempts', 1)
post(KEYS[4], ARGV[7], ARGV[8], ARGV[5])
return 'taken'
