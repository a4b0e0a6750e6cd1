-- prelude: stands before every script. FIELDS and CHANNEL are written above it by lua.py, from keys.py.

-- Milliseconds since the epoch, on Redis' clock: the only one that leases and seq know.
local function now()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- Lua would write large numbers as 1.7e+12.
local function whole(number)
  return string.format('%.0f', number)
end

local function number_at(key, field)
  return tonumber(redis.call('HGET', key, field) or '0') or 0
end

-- The task as callers see it: the values of FIELDS, in order.
local function document(key)
  return redis.call('HMGET', key, unpack(FIELDS))
end

-- One change of a task: the given fields and values are stored, seq rises, and the new document is published.
-- A task that Redis may have forgotten in between (`jump`) takes a seq no lower than the time: watchers saw lower ones.
local function change(key, jump, ...)
  local seq = number_at(key, 'seq') + 1
  if jump then
    seq = math.max(seq, now())
  end
  redis.call('HSET', key, 'seq', whole(seq), ...)
  local values = document(key)
  redis.call('PUBLISH', CHANNEL .. values[1], cjson.encode({key, values}))
  return values
end

-- Whether the holder of this fencing token may still change the task: 'HELD', 'LOST' or 'MISSING'.
local function held_by(key, token)
  local status, newest = unpack(redis.call('HMGET', key, 'status', 'token'))
  if not status then
    return 'MISSING'
  end
  if status == 'PROCESSING' and newest == token then
    return 'HELD'
  end
  return 'LOST'
end
