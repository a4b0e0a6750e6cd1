-- requeue: an operator takes a running task from its worker, unfinished and uncharged. Its guard stays its guard: the
-- worker learns at its next beat that the task is not its own any more, and gives the message back.
-- run, token: of the attempt that is to lose it
-- replies REQUEUED (also when an earlier sending of this call did it, or its worker gave it back)
--       | LOST (another attempt has begun, or it has ended) | MISSING
local state = held(A.run, A.token)
if state ~= 'HELD' then
  local status, run, token = get('status', 'run', 'token')
  return status == 'PENDING' and run == A.run and token == A.token and 'REQUEUED' or state
end
redis.call('HDEL', TASK, 'worker', 'lease_until', 'claim_nonce')
change(false, 'status', 'PENDING')
return 'REQUEUED'
