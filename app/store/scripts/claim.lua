-- claim: a worker holds a message and wants to run its task. The table of docs/protocol.md, in its order.
-- KEYS[1] task hash
-- ARGV[1] run   ARGV[2] id of the message   ARGV[3] worker   ARGV[4] lease, ms   ARGV[5] nonce of this call
-- ARGV[6] id for a copy, should the message have to be parked
-- ARGV[7…] field, value, … to rebuild the task from, when Redis has forgotten it
-- replies {'CLAIMED', attempt, token, checkpoint or '', document}
--       | {'EXHAUSTED', attempt, token}   held, but its attempts are used up: end it
--       | {'PARK', ms}                    come again after so long: publish a copy (ARGV[6]), promote it, acknowledge
--       | {'DROP', why}                   acknowledge
--       | {'MISSING'}                     no such task, and nothing given to rebuild it from
local key, message, lease = KEYS[1], ARGV[2], tonumber(ARGV[4])
local status, run, guard, next_guard, nonce = unpack(
  redis.call('HMGET', key, 'status', 'run', 'guard', 'next_guard', 'claim_nonce'))

if nonce == ARGV[5] then -- sent twice: the same answer again
  local attempt, token, checkpoint = unpack(redis.call('HMGET', key, 'attempt', 'token', 'checkpoint'))
  return {'CLAIMED', attempt, token, checkpoint or '', document(key)}
end
if status and tonumber(run) > tonumber(ARGV[1]) then
  return {'DROP', 'a later run'}
end

local rebuilt = false
if not status or tonumber(run) < tonumber(ARGV[1]) then
  if #ARGV < 7 then
    return {'MISSING'}
  end
  redis.call('HSET', key, 'status', 'PENDING', 'guard', message, 'attempt', number_at(key, 'attempt'), 'charged', 0,
    'progress', 0, unpack(ARGV, 7))
  redis.call('HDEL', key, 'next_guard', 'lease_until', 'checkpoint')
  status, guard, next_guard, rebuilt = 'PENDING', message, false, true
elseif status == 'aborted' and guard == message then
  return {'DROP', 'refused to its caller'}
elseif status == 'created' or status == 'aborted' then
  guard, next_guard = message, false -- an earlier or a parallel request with the same key: its message is as good
elseif status ~= 'PENDING' and status ~= 'PROCESSING' then
  return {'DROP', 'ended'}
elseif message ~= guard and message ~= next_guard then
  return {'DROP', 'another message guards it'}
end

local charged = number_at(key, 'charged')
if status == 'PROCESSING' then
  local left = number_at(key, 'lease_until') - now()
  if left > lease then -- the clock stepped back
    left = lease
    redis.call('HSET', key, 'lease_until', whole(now() + lease))
  end
  if left > 0 then
    redis.call('HSET', key, 'guard', message, 'next_guard', ARGV[6])
    return {'PARK', left}
  end
  -- A lost worker is charged to the task, unless its attempt got further than the one before.
  local attempt, committed_in = unpack(redis.call('HMGET', key, 'attempt', 'committed_in'))
  if attempt ~= committed_in then
    charged = charged + 1
  end
end

local token = math.max(number_at(key, 'token') + 1, now())
local exhausted = charged >= number_at(key, 'max_attempts')
local attempt = number_at(key, 'attempt') + (exhausted and 0 or 1)
redis.call('PERSIST', key)
redis.call('HDEL', key, 'next_guard', 'message')
redis.call('HSETNX', key, 'started_at', whole(now()))
local values = change(key, rebuilt, 'status', 'PROCESSING', 'guard', message, 'token', whole(token), 'worker', ARGV[3],
  'lease_until', whole(now() + lease), 'attempt', attempt, 'charged', charged,
  'progress', number_at(key, 'checkpoint_progress'), 'claim_nonce', exhausted and '' or ARGV[5])
if exhausted then
  return {'EXHAUSTED', whole(attempt), whole(token)}
end
return {'CLAIMED', whole(attempt), whole(token), redis.call('HGET', key, 'checkpoint') or '', values}
