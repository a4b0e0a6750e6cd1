-- create: begin a task. `created` promises nothing to anybody and is seen by nobody; it goes by itself unless queued.
-- nonce, lease   message: id of the one about to be published   keyed: '1' with an Idempotency-Key
-- patience: how long `created` lasts, ms   -- field, value, …
-- replies {'CREATED', epoch}            made by this call (or by an earlier sending of it)
--       | {'STARTED', epoch, document}  another request with the same key is at it: publish a message of your own
--       | {'EXISTS', epoch, document}   the task is there
--       | {'FORGOTTEN'}                 it was deleted
--       | {'YOUNG', ms}                 keyed, in a young epoch: a living worker may bring the task back first
local id, young = epoch()
local status, nonce, seq = get('status', 'nonce', 'seq')
if status and status ~= 'aborted' then
  if status == 'forgotten' then
    return {'FORGOTTEN'}
  end
  if nonce == A.nonce then
    return {'CREATED', id}
  end
  return {status == 'created' and 'STARTED' or 'EXISTS', id, document()}
end
if A.keyed == '1' and young > 0 then
  return {'YOUNG', young}
end
anew(math.max(tonumber(seq or '0') + 1, now()))
redis.call('HSET', TASK, 'status', 'created', 'nonce', A.nonce, 'guard', A.message)
redis.call('PEXPIRE', TASK, A.patience)
return {'CREATED', id}
