-- Renews a worker's registration and the claims it still holds; never takes back a claim that another worker
-- has meanwhile. KEYS jobs, sessions, worker, workers, inbox, changes, then one session each held session.
-- ARGV id, record, lease, inbox ttl, job ttl, session ttl, number of jobs, then the entries of the held jobs and
-- of the held sessions. Returns 1 (held) or 0 (lost) for each entry.
local function renew(stream, id)
  if holder(stream, id) ~= ARGV[1] then return 0 end
  redis.call('XCLAIM', stream, GROUP, ARGV[1], 0, id, 'JUSTID')
  return 1
end
if redis.call('GET', KEYS[3]) ~= ARGV[2] then announce(KEYS[6], ARGV[4]) end
redis.call('SET', KEYS[3], ARGV[2], 'PX', ARGV[3])
local now = now_ms()
redis.call('ZREMRANGEBYSCORE', KEYS[4], '-inf', now)
redis.call('ZADD', KEYS[4], now + ARGV[3], ARGV[1])
redis.call('PEXPIRE', KEYS[4], ARGV[4])
redis.call('PEXPIRE', KEYS[5], ARGV[4])
local held, jobs = {}, tonumber(ARGV[7])
for i = 1, #ARGV - 7 do
  local id = ARGV[7 + i]
  if i <= jobs then
    held[i] = renew(KEYS[1], id)
  else
    held[i] = renew(KEYS[2], id)
    if held[i] == 1 then redis.call('PEXPIRE', KEYS[6 + i - jobs], ARGV[6]) end
  end
end
if jobs > 0 then redis.call('PEXPIRE', KEYS[1], ARGV[5]) end
if #held > jobs then redis.call('PEXPIRE', KEYS[2], ARGV[6]) end
return held
