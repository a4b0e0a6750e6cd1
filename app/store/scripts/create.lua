-- create: begin a task. `created` promises nothing to anybody and is seen by nobody; it goes by itself unless queued.
-- KEYS[1] task hash
-- ARGV[1] nonce of this call   ARGV[2] id of the message about to be published   ARGV[3] how long `created` lasts, ms
-- ARGV[4…] field, value, …
-- replies {'CREATED', document}  made by this call (or by an earlier sending of it)
--       | {'STARTED', document}  another request with the same key is at it: publish a message of your own
--       | {'EXISTS', document}   the task is there
local status, nonce = unpack(redis.call('HMGET', KEYS[1], 'status', 'nonce'))
if status and status ~= 'aborted' then
  if nonce == ARGV[1] then
    return {'CREATED', document(KEYS[1])}
  end
  return {status == 'created' and 'STARTED' or 'EXISTS', document(KEYS[1])}
end
local seq = math.max(number_at(KEYS[1], 'seq') + 1, now())
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'status', 'created', 'nonce', ARGV[1], 'guard', ARGV[2], 'seq', whole(seq),
  'attempt', 0, 'charged', 0, 'progress', 0, unpack(ARGV, 4))
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return {'CREATED', document(KEYS[1])}
