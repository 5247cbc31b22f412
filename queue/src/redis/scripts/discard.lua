-- Drops an entry that stands for nothing any more, if this worker holds it.
-- KEYS stream. ARGV worker, entry.
if holder(KEYS[1], ARGV[2]) == ARGV[1] then drop(KEYS[1], ARGV[2]) end
return 1
