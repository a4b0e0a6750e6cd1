-- prelude: stands before every script. lua.py writes CHANNEL above it, and document(): the task as callers see it, the values
-- of PUBLIC_FIELDS (keys.py) in order. A command costs Redis about a microsecond, so what has been read is not read again.
-- KEYS[1] the task's hash (of scripts about a whole shard: its epoch)   KEYS[2] the shard's living tasks   KEYS[3] the shard's epoch
-- KEYS[4] the task's log (not of scripts about a whole shard)
-- ARGV    name, value, …, and where a script takes fields of the hash: '--', field, value, …
local TASK, LIVE, EPOCH, LOGS = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local ID = string.match(TASK, ':task:(.+)$')
local A, FIRST_FIELD = {}, #ARGV + 1
for i = 1, #ARGV, 2 do
  if ARGV[i] == '--' then
    FIRST_FIELD = i + 1
    break
  end
  A[ARGV[i]] = ARGV[i + 1]
end

-- Milliseconds since the epoch of Unix, on Redis' clock: the only one that leases and seq know. The same for all of a call.
local NOW
local function now()
  if not NOW then
    local time = redis.call('TIME')
    NOW = time[1] * 1000 + math.floor(time[2] / 1000)
  end
  return NOW
end

-- Lua would write large numbers as 1.7e+12.
local function whole(number)
  return string.format('%.0f', number)
end

local function get(...)
  return unpack(redis.call('HMGET', TASK, ...))
end

local function number_of(field)
  return tonumber(redis.call('HGET', TASK, field) or '0') or 0
end

-- One change of a task: the given fields and values are stored, seq rises, and the new document is published.
-- A task that Redis may have forgotten in between (`jump`) takes a seq no lower than the time: watchers saw lower ones.
-- Returns the document, and its seq as a text.
local function change(jump, ...)
  local seq = number_of('seq') + 1
  if jump then
    seq = math.max(seq, now())
  end
  redis.call('HSET', TASK, 'seq', whole(seq), ...)
  local values = document()
  redis.call('PUBLISH', CHANNEL .. values[1], cjson.encode({TASK, values}))
  return values, whole(seq)
end

-- The shard's epoch, made by whoever misses it: its id, and for how many ms it is younger than a lease.
local function epoch()
  local lease = tonumber(A.lease)
  local id, since = unpack(redis.call('HMGET', EPOCH, 'id', 'since'))
  if not id then
    id, since = A.nonce, whole(now())
    redis.call('HSET', EPOCH, 'id', id, 'since', since)
  end
  return id, math.min(lease, tonumber(since) + lease - now())
end

-- Whether the holder of this fencing token may still change this run: 'HELD', 'LOST' or 'MISSING'; and the given fields.
local function held(run, token, ...)
  local found = redis.call('HMGET', TASK, 'status', 'run', 'token', ...)
  local status, stored_run, newest = unpack(found, 1, 3)
  if status == 'forgotten' then -- it bars every run: DELETE may have found no hash to learn the run from
    return 'LOST'
  end
  if not status or tonumber(stored_run) < tonumber(run) then
    return 'MISSING'
  end
  if status == 'PROCESSING' and stored_run == run and newest == token then
    return 'HELD', unpack(found, 4)
  end
  return 'LOST'
end

-- A lost worker is charged to the task, unless its attempt got further than the one before.
local function charged_for_a_lost_worker()
  local attempt, committed_in = get('attempt', 'committed_in')
  return number_of('charged') + (attempt ~= committed_in and 1 or 0)
end

-- The hash is made anew from the call's fields. The fencing token goes on from where it was, as seq does.
local function anew(seq)
  local token = redis.call('HGET', TASK, 'token')
  redis.call('DEL', TASK)
  redis.call('HSET', TASK, 'seq', whole(seq), 'token', token or '0', unpack(ARGV, FIRST_FIELD))
end

-- The message with this id has been confirmed by the broker just now.
local function published()
  redis.call('ZADD', LIVE, whole(now()), ID)
end
