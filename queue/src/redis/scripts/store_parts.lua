-- Stores parts of audio from a position on. What lies from there on already is of an earlier try whose answer
-- was lost, and is replaced: safe to repeat. KEYS audio. ARGV parts before, ttl (ms), parts…
redis.call('LTRIM', KEYS[1], 0, ARGV[1] - 1)
if ARGV[1] == '0' then redis.call('DEL', KEYS[1]) end
for i = 3, #ARGV do redis.call('RPUSH', KEYS[1], ARGV[i]) end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return redis.call('LLEN', KEYS[1])
