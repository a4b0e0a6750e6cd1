-- promote: the copy is confirmed by the broker; from now on it is the task's guard, and the old message may go.
-- run   copy: its id   old: id of the message that it replaces
-- replies 'PROMOTED' | 'OTHER' (another message guards the task: the old one may go all the same)
--       | 'KEEP' (the old one guards it still, or nobody knows: it must not go; the copy too many is dropped at its claim)
local run, guard, next_guard = get('run', 'guard', 'next_guard')
if not run or tonumber(run) < tonumber(A.run) then
  return 'KEEP'
end
if guard == A.copy then -- sent twice
  return 'PROMOTED'
end
if next_guard ~= A.copy then
  return (not guard or guard == '' or guard == A.old) and 'KEEP' or 'OTHER'
end
redis.call('HDEL', TASK, 'next_guard')
redis.call('HSET', TASK, 'guard', A.copy)
published()
return 'PROMOTED'
