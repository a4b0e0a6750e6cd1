-- rerun: begin another run of a task that has ended. Until it is queued the old end is shown, and an abort puts it back.
-- nonce, lease   message: id of the one about to be published   run: the new one   patience: how long this lasts, ms
-- hand: '1' if an operator has set the status to PENDING   -- field, value, … (the row's, to make the hash from if it is gone)
-- replies {'CREATED', epoch} | {'RUNNING', epoch, document} (another retry was first) | {'FORGOTTEN'}
--       | {'YOUNG', ms} no hash in a young epoch: a living worker may bring a later run back first
local id, young = epoch()
local status, run, nonce, finished = get('status', 'run', 'nonce', 'finished_at')
if status == 'forgotten' then
  return {'FORGOTTEN'}
end
if status and nonce == A.nonce then
  return {'CREATED', id}
end
if status and status ~= 'aborted' then
  local by_hand = A.hand == '1' and status == 'PENDING' and finished
  if tonumber(run) >= tonumber(A.run) or not (status == 'FAILED' or status == 'CANCELLED' or by_hand) then
    return {'RUNNING', id, document()}
  end
end
if not status and young > 0 then
  return {'YOUNG', young}
end
anew(math.max(number_of('seq'), now()))
redis.call('HSET', TASK, 'status', 'created', 'ended_as', redis.call('HGET', TASK, 'status'), 'nonce', A.nonce,
  'guard', A.message, 'run', A.run)
redis.call('PEXPIRE', TASK, A.patience)
return {'CREATED', id}
