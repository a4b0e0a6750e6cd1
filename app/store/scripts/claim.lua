-- claim: a worker holds a message and wants to run its task. The table of docs/protocol.md, in its order.
-- nonce, lease   run, message: of the message   worker   copy: id for a copy, should the message have to be parked
-- asked: what the archive has been asked about since the last call, as replied by it   epoch: as replied with it
-- -- field, value, … to rebuild the task from, when Redis has forgotten it; not before the archive has been asked
-- replies {'CLAIMED', attempt, token, cancel, rebuilt, charged, checkpoint, document}   cancel: '1' end it as CANCELLED
--                                                                              rebuilt: '1' ask the archive once more
--       | {'EXHAUSTED', checkpoint, checkpoint_progress, document}  held, but its attempts are used up: end it
--       | {'PARK', ms}        come again after so long: publish the copy, promote it, acknowledge
--       | {'WAIT', ms}        a young epoch: publish the same message for later, acknowledge
--       | {'ASK', what, epoch} ask the archive what stands against this message, and claim again
--                              MARKED: a DELETE is under way: drop it if the archive has its end or forgot it, else wait
--       | {'DROP', why}       acknowledge
local lease, run = tonumber(A.lease), tonumber(A.run)
local id, young = epoch()
local status, stored_run, guard, next_guard, nonce, provisional =
  get('status', 'run', 'guard', 'next_guard', 'claim_nonce', 'provisional')

-- What is answered to who has the task now; `values` is its document.
local function taken(rebuilt, values)
  local attempt, token, cancel, charged, checkpoint, checkpoint_progress, max_attempts =
    get('attempt', 'token', 'cancel', 'charged', 'checkpoint', 'checkpoint_progress', 'max_attempts')
  if tonumber(charged) >= tonumber(max_attempts or '0') then
    return {'EXHAUSTED', checkpoint or '', tonumber(checkpoint_progress or '0'), values}
  end
  return {'CLAIMED', attempt, token, cancel or '', rebuilt, charged, checkpoint or '', values}
end

local function must_ask(what)
  return A.asked ~= what or A.epoch ~= id
end

if status and nonce == A.nonce then -- sent twice: the same answer again
  return taken('1', document())
end
if status == 'forgotten' then -- of whatever run: DELETE may have found no hash to learn it from
  if provisional then -- DELETE may have died, and promised nothing
    return {'ASK', 'MARKED', id}
  end
  return {'DROP', status}
end
if status and tonumber(stored_run) > run then
  return {'DROP', 'a later run'}
end

local begun, rebuilt = false, false -- whether this call makes it visible, and whether from its message alone
local missing = not status or tonumber(stored_run) < run
if missing or (status == 'created' or status == 'aborted') and guard ~= A.message then
  if missing and young > 0 then
    return {'WAIT', young}
  end
  local what = missing and 'MISSING' or 'CREATED'
  if must_ask(what) then
    return {'ASK', what, id}
  end
  anew(number_of('seq'))
  redis.call('HSET', TASK, 'status', 'PENDING', 'guard', A.message)
  published()
  status, begun, rebuilt = 'PENDING', true, true
elseif status == 'created' then -- confirmed, as its coming shows, before `queued` was called
  redis.call('HDEL', TASK, 'ended_as', 'finished_at', 'expires_at', 'result', 'error', 'cancel', 'started_at')
  redis.call('HSET', TASK, 'status', 'PENDING')
  published()
  status, begun = 'PENDING', true
elseif status ~= 'PENDING' and status ~= 'PROCESSING' then
  return {'DROP', status}
elseif guard ~= '' and A.message ~= guard and A.message ~= next_guard then
  return {'DROP', 'another message guards it'}
elseif A.message ~= guard then -- the expected copy; or whichever comes first after a restore
  redis.call('HSET', TASK, 'guard', A.message)
  redis.call('HDEL', TASK, 'next_guard')
end
redis.call('PERSIST', TASK)

local function park(ms)
  redis.call('HSET', TASK, 'next_guard', A.copy)
  return {'PARK', ms}
end

local not_before, cancel, charged, max_attempts, attempt, token, progress, started_at =
  get('not_before', 'cancel', 'charged', 'max_attempts', 'attempt', 'token', 'checkpoint_progress', 'started_at')
progress = progress or '0'
local early = tonumber(not_before or '0') - now()
if status == 'PENDING' and early > 0 and cancel ~= '1' then
  if begun then
    change(rebuilt, 'progress', progress)
  end
  return park(early)
end
charged = tonumber(charged or '0')
if status == 'PROCESSING' then
  local left = number_of('lease_until') - now()
  if left > lease then -- the clock stepped back
    left = lease
    redis.call('HSET', TASK, 'lease_until', whole(now() + lease))
  end
  if left > 0 then
    return park(left)
  end
  if young > 0 then
    return {'WAIT', young}
  end
  if must_ask('EXPIRED') then
    return {'ASK', 'EXPIRED', id}
  end
  charged = charged_for_a_lost_worker()
end

token = math.max(tonumber(token or '0') + 1, now())
attempt = tonumber(attempt or '0') + (charged < tonumber(max_attempts or '0') and 1 or 0)
redis.call('HDEL', TASK, 'next_guard', 'message', 'not_before', 'redrives')
local values = change(rebuilt, 'status', 'PROCESSING', 'token', whole(token), 'worker', A.worker,
  'lease_until', whole(now() + lease), 'attempt', attempt, 'charged', charged, 'progress', progress,
  'started_at', started_at or whole(now()), 'claim_nonce', A.nonce)
return taken(rebuilt and '1' or '0', values)
