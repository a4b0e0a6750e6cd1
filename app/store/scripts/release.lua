-- release: give a task back unfinished; a copy of its message will bring it up again.
-- run, token   copy: id of the copy   charge: '1' for a failure of the task's own   wait: ms
-- replies {'RELEASED', attempt, charged} (also when an earlier sending of this call released it)
--       | {'EXHAUSTED'} (nothing was changed: its attempts are used up)   | {'LOST'} | {'MISSING'}
local state = held(A.run, A.token)
if state ~= 'HELD' then
  local status, token, next_guard, attempt, charged = get('status', 'token', 'next_guard', 'attempt', 'charged')
  if status == 'PENDING' and token == A.token and next_guard == A.copy then
    return {'RELEASED', attempt, charged}
  end
  return {state}
end
local charged = number_of('charged') + (A.charge == '1' and 1 or 0)
if charged >= number_of('max_attempts') then
  return {'EXHAUSTED'}
end
redis.call('HDEL', TASK, 'worker', 'lease_until', 'claim_nonce')
if tonumber(A.wait) > 0 then
  redis.call('HSET', TASK, 'not_before', whole(now() + tonumber(A.wait)))
end
change(false, 'status', 'PENDING', 'charged', charged, 'next_guard', A.copy)
local attempt = redis.call('HGET', TASK, 'attempt')
return {'RELEASED', attempt, charged}
