-- promote: the copy is confirmed by the broker; from now on it is the task's guard, and the old message may go.
-- KEYS[1] task hash   ARGV[1] id of the copy
-- replies 'PROMOTED' | 'OTHER' (the copy is not, or no longer, the one expected: the old message may go all the same)
if redis.call('HGET', KEYS[1], 'next_guard') ~= ARGV[1] then
  return 'OTHER'
end
redis.call('HDEL', KEYS[1], 'next_guard')
redis.call('HSET', KEYS[1], 'guard', ARGV[1])
return 'PROMOTED'
