-- How much waits, at one moment. KEYS jobs, sessions. ARGV lease, job ttl, session ttl.
-- Returns {jobs, sessions, age of the oldest job, age of the oldest session}.
local now = now_ms()
local jobs, oldest_job = waiting(KEYS[1], ARGV[1], tonumber(ARGV[2]), now)
local sessions, oldest_session = waiting(KEYS[2], ARGV[1], tonumber(ARGV[3]), now)
return {jobs, sessions, math.max(0, now - oldest_job), math.max(0, now - oldest_session)}
