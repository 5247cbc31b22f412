-- Forgets a session: entry, claim and state. Returns {worker that held it or '', epoch}.
-- KEYS sessions, session.
local s = redis.call('HMGET', KEYS[2], 'entry', 'worker', 'epoch')
if not s[1] then return {'', 0} end
if s[1] ~= '' then drop(KEYS[1], s[1]) end
redis.call('DEL', KEYS[2])
return {s[2], tonumber(s[3])}
