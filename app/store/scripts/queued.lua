-- queued: the broker has confirmed the message; from here on the task is promised, and seen.
-- nonce, lease   run   message: id of the confirmed one   epoch: the one in which the request began
-- replies {'QUEUED', seq}       PENDING by this call, as the request made it
--       | {'ALIVE', document}   PENDING as another request with the same key made it, or further on already; also a
--                               repetition of what was answered QUEUED, with the same task
--       | {'FORGOTTEN'}
--       | {'MISSING'}           no such task, an aborted one, or another epoch's: the confirmed message will rebuild it
local id = epoch()
local status, run, guard, ended_as, checkpoint_progress = get('status', 'run', 'guard', 'ended_as', 'checkpoint_progress')
if status == 'forgotten' then
  return {'FORGOTTEN'}
end
if not status or status == 'aborted' or tonumber(run) < tonumber(A.run) then
  return {'MISSING'}
end
if status ~= 'created' or tonumber(run) > tonumber(A.run) then
  return {'ALIVE', document()}
end
if id ~= A.epoch and guard ~= A.message then
  return {'MISSING'}
end
redis.call('PERSIST', TASK)
if ended_as then -- the run before has left its end here
  redis.call('HDEL', TASK, 'ended_as', 'finished_at', 'expires_at', 'result', 'error', 'message', 'cancel', 'started_at')
end
published()
local values, seq = change(false, 'status', 'PENDING', 'guard', A.message, 'progress', checkpoint_progress or '0')
return guard == A.message and {'QUEUED', seq} or {'ALIVE', values}
