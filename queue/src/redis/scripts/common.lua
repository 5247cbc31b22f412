-- What every script of the queue shares. A script is used where a step reads something and writes depending on
-- it (who holds the claim, how much waits): Redis runs it as one step, which MULTI cannot (it cannot branch).
-- Every key comes in KEYS and lies in the deployment's hash slot. Commands are those of Redis 6.2.
local GROUP = 'workers'

local function now_ms()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end

-- An entry id begins with the milliseconds at which it was added.
local function id_ms(id)
  return tonumber(string.match(id, '^%d+'))
end

-- The consumer that holds an entry; nil when nobody does, or when the group is gone (FLUSHALL).
local function holder(stream, id)
  local found = redis.pcall('XPENDING', stream, GROUP, id, id, 1)
  if found.err or not found[1] then return nil end
  return found[1][2]
end

-- Takes an entry out of the stream and out of whoever's hands.
local function drop(stream, id)
  redis.call('XACK', stream, GROUP, id)
  redis.call('XDEL', stream, id)
end

-- The value of a field of an entry.
local function field(entry, name)
  local flat = entry[2]
  for i = 1, #flat, 2 do
    if flat[i] == name then return flat[i + 1] end
  end
end

-- Adds an entry and makes sure that the stream lives, and has its group, as long as the entry may.
local function push(stream, ttl, ...)
  local id = redis.call('XADD', stream, '*', ...)
  redis.pcall('XGROUP', 'CREATE', stream, GROUP, '0')
  if redis.call('PTTL', stream) < tonumber(ttl) then redis.call('PEXPIRE', stream, ttl) end
  return id
end

-- Appends a parcel of messages to an inbox.
local function post(inbox, entries, ttl, parcel)
  redis.call('XADD', inbox, 'MAXLEN', '~', entries, '*', 'm', parcel)
  redis.call('PEXPIRE', inbox, ttl)
end

-- Wakes whoever looks on: something about a registration is new.
local function announce(changes, ttl)
  redis.call('XADD', changes, 'MAXLEN', 1, '*', 'c', '1')
  redis.call('PEXPIRE', changes, ttl)
end

-- Keeps a dead letter.
local function bury(dead, entries, ttl, letter)
  redis.call('XADD', dead, 'MAXLEN', '~', entries, '*', 'letter', letter)
  redis.call('PEXPIRE', dead, ttl)
end

-- Claims that exist and the last entry that was ever claimed; 0 and '0-0' without a group.
local function claims(stream)
  local rows = redis.pcall('XINFO', 'GROUPS', stream)
  if not rows.err then
    for _, row in ipairs(rows) do
      local of = {}
      for i = 1, #row, 2 do of[row[i]] = row[i + 1] end
      if of['name'] == GROUP then return of['pending'], of['last-delivered-id'] end
    end
  end
  return 0, '0-0'
end

-- Entries that no live claim holds, and when the oldest of them was added. Exact: entries never claimed plus
-- claims that nobody renewed for a lease. Entries that nobody claimed in their time to live are forgotten.
local function waiting(stream, lease, ttl, now)
  local length = redis.call('XLEN', stream)
  if length == 0 then return 0, now end
  local pending, last = claims(stream)
  local oldest = now
  while true do
    local first = redis.call('XRANGE', stream, '(' .. last, '+', 'COUNT', 1)
    if not first[1] then break end
    if id_ms(first[1][1]) + ttl > now then
      oldest = math.min(oldest, id_ms(first[1][1]))
      break
    end
    redis.call('XDEL', stream, first[1][1])
    length = length - 1
  end
  local lapsed, from = 0, '-'
  while pending > 0 do
    local page = redis.call('XPENDING', stream, GROUP, 'IDLE', lease, from, '+', 100)
    if from == '-' and page[1] then oldest = math.min(oldest, id_ms(page[1][1])) end
    lapsed = lapsed + #page
    if #page < 100 then break end
    from = '(' .. page[100][1]
  end
  return length - pending + lapsed, oldest
end
