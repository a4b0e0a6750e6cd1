-- hand_over: the holder leaves a copy of its message in the queue, to hold no delivery for too long.
-- run, token   copy: id of the copy
-- replies 'HELD' (publish the copy, promote it, acknowledge the message) | 'LOST' | 'MISSING'
local state = held(A.run, A.token)
if state == 'HELD' then
  redis.call('HSET', TASK, 'next_guard', A.copy)
end
return state
