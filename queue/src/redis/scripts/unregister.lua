-- Removes a worker that drained. Its name leaves the groups only when it holds nothing: a consumer takes its
-- claims along, and they would never be claimed again.
-- KEYS jobs, sessions, worker, workers, inbox, changes. ARGV id, inbox ttl.
if redis.call('DEL', KEYS[3]) == 1 then announce(KEYS[6], ARGV[2]) end
redis.call('DEL', KEYS[5])
redis.call('ZREM', KEYS[4], ARGV[1])
for i = 1, 2 do
  local mine = redis.pcall('XPENDING', KEYS[i], GROUP, '-', '+', 1, ARGV[1])
  if not mine.err and not mine[1] then redis.pcall('XGROUP', 'DELCONSUMER', KEYS[i], GROUP, ARGV[1]) end
end
return 1
