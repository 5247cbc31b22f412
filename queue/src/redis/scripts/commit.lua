-- Commits a segment: state and the `Final` event together, and only while the claim holds. A segment that is
-- committed already is not sent again, so this is safe to repeat.
-- KEYS sessions, session, inbox. ARGV worker, entry, index, samples, text, parcel, session ttl, inbox entries,
-- inbox ttl. Returns 0 when the claim is lost.
if holder(KEYS[1], ARGV[2]) ~= ARGV[1] then return 0 end
local s = redis.call('HMGET', KEYS[2], 'entry', 'segments', 'committed_text')
if s[1] ~= ARGV[2] then return 0 end
if tonumber(ARGV[3]) < tonumber(s[2]) then return 1 end
local text = s[3]
if ARGV[5] ~= '' then
  if text == '' then text = ARGV[5] else text = text .. ' ' .. ARGV[5] end
end
redis.call('HSET', KEYS[2], 'segments', ARGV[3] + 1, 'committed_samples', ARGV[4], 'committed_text', text,
  'attempts', 0)
redis.call('HINCRBY', KEYS[2], 'revision', 1)
redis.call('PEXPIRE', KEYS[2], ARGV[7])
post(KEYS[3], ARGV[8], ARGV[9], ARGV[6])
return 1
