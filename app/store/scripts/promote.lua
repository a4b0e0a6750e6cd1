-- promote: the copy is confirmed by the broker; from now on it is the task's guard, and the old message may go.
-- copy: its id
-- replies 'PROMOTED' | 'OTHER' (the copy is not, or no longer, the one expected: the old message may go all the same)
if redis.call('HGET', TASK, 'next_guard') ~= A.copy then
  return 'OTHER'
end
redis.call('HDEL', TASK, 'next_guard')
redis.call('HSET', TASK, 'guard', A.copy)
published()
return 'PROMOTED'
