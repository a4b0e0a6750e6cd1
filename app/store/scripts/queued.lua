-- queued: the broker has confirmed the message; from here on the task is promised, and seen.
-- KEYS[1] task hash   ARGV[1] id of the confirmed message
-- replies {'ALIVE', document}   PENDING by this call, or further on already
--       | {'MISSING'}           no such task, or an aborted one: the confirmed message alone will rebuild it
local status = redis.call('HGET', KEYS[1], 'status')
if not status or status == 'aborted' then
  return {'MISSING'}
end
if status ~= 'created' then
  return {'ALIVE', document(KEYS[1])}
end
redis.call('PERSIST', KEYS[1])
return {'ALIVE', change(KEYS[1], false, 'status', 'PENDING', 'guard', ARGV[1])}
