-- abort: the publish failed or its outcome is unknown; leave a tombstone, so that a late message starts nothing.
-- Acts only on `created` with its own message: whatever else is there is another request's, or runs already.
-- run   message: id of the one that failed   patience: how long the tombstone stays, ms   ttl: how long an end is shown, ms
-- replies {'ABORTED'} | {'ALIVE', document} | {'MISSING'} (nothing of its own is there: the message may arrive and run)
local status, run, guard, ended_as, aborted = get('status', 'run', 'guard', 'ended_as', 'aborted')
if aborted == A.message then -- sent twice
  return {'ABORTED'}
end
if status == 'created' and guard == A.message then
  redis.call('HSET', TASK, 'aborted', A.message)
  if ended_as then
    redis.call('HDEL', TASK, 'ended_as', 'guard', 'nonce', 'envelope', 'checkpoint')
    redis.call('HSET', TASK, 'status', ended_as, 'run', tonumber(run) - 1)
    redis.call('PEXPIRE', TASK, A.ttl)
  else
    redis.call('HSET', TASK, 'status', 'aborted')
    redis.call('HDEL', TASK, 'envelope')
    redis.call('PEXPIRE', TASK, A.patience)
  end
  return {'ABORTED'}
end
if not status or status == 'created' or status == 'aborted' or status == 'forgotten'
    or tonumber(run) < tonumber(A.run) then
  return {'MISSING'}
end
return {'ALIVE', document()}
