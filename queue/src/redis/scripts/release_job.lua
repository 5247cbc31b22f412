-- Gives a claimed job back: it goes to the end of the line at once, and keeps its count of attempts.
-- KEYS jobs, job. ARGV worker, entry, attempts, job ttl. Returns 1 when it was released now.
if holder(KEYS[1], ARGV[2]) ~= ARGV[1] then return 0 end
local entry = redis.call('XRANGE', KEYS[1], ARGV[2], ARGV[2])
drop(KEYS[1], ARGV[2])
if not entry[1] then return 0 end
local again = push(KEYS[1], ARGV[4], 'job', field(entry[1], 'job'), 'attempts', ARGV[3])
redis.call('SET', KEYS[2], again, 'PX', ARGV[4])
return 1
