-- admit: an owner's limits, before `create`. Stands alone, without the prelude: it is about an owner, not about a task.
-- The rate is a token bucket (as GCRA keeps it: the one moment at which the bucket is full again), which mends by itself;
-- what is active is a set of ids, so that a crash leaves an id too many, which the leader removes, and never a wrong count.
-- KEYS[1] the owner's rate   KEYS[2] ids of active tasks, by the ms of admission   KEYS[3] the owner's list, by created_at
-- ARGV    id, nonce, created_at (ms), capacity (units), window (ms, in which an empty bucket fills), most (active tasks),
--         kept (ms, how long the list is kept)
-- replies {'ADMITTED' | 'RATE' | 'QUOTA', units left, ms until there is one more, 1 if the id was not active before}
local id, nonce, created_at = ARGV[1], ARGV[2], ARGV[3]
local capacity, window, most, kept = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6]), ARGV[7]
local time = redis.call('TIME')
local now = time[1] * 1000 + time[2] / 1000
local full, last, was_new = unpack(redis.call('HMGET', KEYS[1], 'full_at', 'nonce', 'new'))
local unit, full_at, epsilon = window / capacity, math.max(tonumber(full or '0'), now), 0.001
if full_at > now + window then -- the clock has stepped back, or the settings are others: never a longer wait than a window
  full_at = now + window
end

local function reply(verdict, new)
  local left = math.max(0, (window - (full_at - now)) / unit)
  local whole = math.floor(left + epsilon)
  return {verdict, whole, math.ceil(math.max(0, (whole + 1 - left) * unit - epsilon)), new}
end

if last == nonce then -- sent twice
  return reply('ADMITTED', tonumber(was_new))
end
if full_at + unit > now + window + epsilon then
  return reply('RATE', 0)
end
full_at = full_at + unit
local function take(...)
  redis.call('HSET', KEYS[1], 'full_at', string.format('%.3f', full_at), ...)
  redis.call('PEXPIRE', KEYS[1], string.format('%.0f', math.ceil(full_at - now)))
end

local new = 0
if redis.call('ZCARD', KEYS[2]) < most then
  new = redis.call('ZADD', KEYS[2], 'NX', string.format('%.0f', now), id)
elseif not redis.call('ZSCORE', KEYS[2], id) then
  take()
  return reply('QUOTA', 0)
end
take('nonce', nonce, 'new', new)
redis.call('ZADD', KEYS[3], 'NX', created_at, id)
redis.call('PEXPIRE', KEYS[3], kept)
return reply('ADMITTED', new)
