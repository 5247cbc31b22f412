-- Ends a session for good: claim, state and last event together, and only while the claim holds.
-- KEYS sessions, session, inbox, dead. ARGV worker, entry, parcel or '', inbox entries, inbox ttl,
-- letter or '', letters kept, letter ttl. Returns 1 when it was ended now.
if holder(KEYS[1], ARGV[2]) ~= ARGV[1] then return 0 end
drop(KEYS[1], ARGV[2])
if redis.call('HGET', KEYS[2], 'entry') ~= ARGV[2] then return 0 end
redis.call('DEL', KEYS[2])
if ARGV[3] ~= '' then post(KEYS[3], ARGV[4], ARGV[5], ARGV[3]) end
if ARGV[6] ~= '' then bury(KEYS[4], ARGV[7], ARGV[8], ARGV[6]) end
return 1
