-- Everything there is to see of some components, at one moment and in one round trip.
-- KEYS jobs, sessions, workers, gateways, changes of each component. ARGV lease, job ttl, session ttl, then the
-- prefixes of each component's registrations (worker, gateway): which there are is only known here, so their names
-- are made here; they lie in the deployment's slot like all others.
-- Returns for each component {jobs, sessions, age of the oldest job, age of the oldest session, held jobs, held
-- sessions, last id of jobs, of sessions, of changes, records of workers, records of gateways}.
local now = now_ms()
local function last_id(stream)
  local info = redis.pcall('XINFO', 'STREAM', stream)
  if info.err then return '0-0' end
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then return info[i + 1] end
  end
  return '0-0'
end
local function records(set, prefix)
  local found = {}
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', set, '(' .. now, '+inf')) do
    local record = redis.call('GET', prefix .. id)
    if record then found[#found + 1] = record end
  end
  return found
end
local seen = {}
for i = 0, #KEYS / 5 - 1 do
  local jobs, sessions, workers = KEYS[5 * i + 1], KEYS[5 * i + 2], KEYS[5 * i + 3]
  local gateways, changes = KEYS[5 * i + 4], KEYS[5 * i + 5]
  local batch, oldest_job = waiting(jobs, ARGV[1], tonumber(ARGV[2]), now)
  local live, oldest_session = waiting(sessions, ARGV[1], tonumber(ARGV[3]), now)
  local held_jobs, held_sessions = redis.call('XLEN', jobs) - batch, redis.call('XLEN', sessions) - live
  seen[i + 1] = {
    batch, live, math.max(0, now - oldest_job), math.max(0, now - oldest_session), held_jobs, held_sessions,
    last_id(jobs), last_id(sessions), last_id(changes),
    records(workers, ARGV[4 + 2 * i]), records(gateways, ARGV[5 + 2 * i])
  }
end
return seen
