-- Drops a job wherever it is, together with its audio. Returns the worker that held it, or ''.
-- KEYS jobs, job, audio. ARGV how long the id stays known as done (ms).
redis.call('DEL', KEYS[3])
local id = redis.call('GET', KEYS[2])
if not id or id == 'done' then return '' end
local worker = holder(KEYS[1], id)
drop(KEYS[1], id)
redis.call('SET', KEYS[2], 'done', 'PX', ARGV[1])
return worker or ''
