-- abort: the publish failed or its outcome is unknown; leave a tombstone, so that a late message starts nothing.
-- Acts only on `created` with its own message: whatever else is there is another request's, or runs already.
-- KEYS[1] task hash   ARGV[1] id of the message   ARGV[2] how long the tombstone stays, ms
-- replies {'ABORTED'} | {'ALIVE', document} | {'MISSING'} (nothing is known: the message may arrive and run)
local status, guard = unpack(redis.call('HMGET', KEYS[1], 'status', 'guard'))
if not status then
  return {'MISSING'}
end
if guard == ARGV[1] and (status == 'created' or status == 'aborted') then
  redis.call('HSET', KEYS[1], 'status', 'aborted')
  redis.call('HDEL', KEYS[1], 'envelope')
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
  return {'ABORTED'}
end
if status == 'created' or status == 'aborted' then
  return {'MISSING'}
end
return {'ALIVE', document(KEYS[1])}
