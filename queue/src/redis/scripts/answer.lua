-- Answers a job, forgets it and its audio, and keeps a dead letter when asked: all or nothing, and only while
-- the claim holds. So a job is answered once, however often this is repeated or by how many workers.
-- KEYS jobs, job, audio, inbox, dead. ARGV worker, entry, parcel, inbox entries, inbox ttl, done ttl,
-- letter or '', letters kept, letter ttl. Returns 1 when it was answered now.
if holder(KEYS[1], ARGV[2]) ~= ARGV[1] then return 0 end
drop(KEYS[1], ARGV[2])
redis.call('SET', KEYS[2], 'done', 'PX', ARGV[6])
redis.call('DEL', KEYS[3])
post(KEYS[4], ARGV[4], ARGV[5], ARGV[3])
if ARGV[7] ~= '' then bury(KEYS[5], ARGV[8], ARGV[9], ARGV[7]) end
return 1
