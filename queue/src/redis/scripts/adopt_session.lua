-- Gives a session to another gateway and queues it again; the former claim is void. The new `opened` was
-- written for one revision of the state, so nothing may have changed since it was read.
-- KEYS sessions, session, gateway, former inbox. ARGV id, revision, opened, parcel or '', session ttl,
-- gateway ttl, inbox entries, inbox ttl. Returns {'adopted', former worker or '', epoch}, {'changed'} or {'gone'}.
local s = redis.call('HMGET', KEYS[2], 'revision', 'entry', 'worker', 'epoch')
if not s[1] then return {'gone', '', 0} end
if s[1] ~= ARGV[2] then return {'changed', '', 0} end
if s[2] ~= '' then drop(KEYS[1], s[2]) end
local again = push(KEYS[1], ARGV[5], 'session', ARGV[1])
redis.call('HSET', KEYS[2], 'opened', ARGV[3], 'entry', again, 'worker', '', 'attempts', 0)
redis.call('HINCRBY', KEYS[2], 'revision', 1)
redis.call('PEXPIRE', KEYS[2], ARGV[5])
redis.call('SET', KEYS[3], '1', 'PX', ARGV[6])
if ARGV[4] ~= '' then post(KEYS[4], ARGV[7], ARGV[8], ARGV[4]) end
return {'adopted', s[3], tonumber(s[4])}
