-- release: give a task back unfinished, at once and uncharged. Its message goes back to the queue.
-- KEYS[1] task hash   ARGV[1] fencing token
-- replies 'RELEASED' (also when an earlier sending of this call released it) | 'LOST' | 'MISSING'
local held = held_by(KEYS[1], ARGV[1])
if held ~= 'HELD' then
  local status, token = unpack(redis.call('HMGET', KEYS[1], 'status', 'token'))
  if status == 'PENDING' and token == ARGV[1] then
    return 'RELEASED'
  end
  return held
end
redis.call('HDEL', KEYS[1], 'worker', 'lease_until')
change(KEYS[1], false, 'status', 'PENDING')
return 'RELEASED'
