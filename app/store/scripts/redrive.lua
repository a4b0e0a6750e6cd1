-- redrive: housekeeping gives a living task a new message, its own having been lost, or being about to be.
-- nonce, lease   copy: id of the new message   asked: '1' once the archive knows no row of this run   epoch: then
-- all: '1' after RabbitMQ was emptied: a running task, too
-- replies {'PUBLISH', run, wait, attempt, charged, envelope, checkpoint or ''}   publish it after wait ms, and promote it
--       | {'ASK', run, epoch} an expired lease: ask the archive | {'WELL'} nothing is to be done | {'GONE'} not a living task
local id, young = epoch()
local status, run, lease_until = get('status', 'run', 'lease_until')
if status == 'created' then
  return {'WELL'}
end
if status ~= 'PENDING' and status ~= 'PROCESSING' then
  redis.call('ZREM', LIVE, ID)
  return {'GONE'}
end
if status == 'PROCESSING' then
  local expired = tonumber(lease_until or '0') < now()
  if not expired and A.all ~= '1' then
    return {'WELL'}
  end
  if expired then
    if young > 0 then
      return {'WELL'}
    end
    if A.asked ~= '1' or A.epoch ~= id then
      return {'ASK', run, id}
    end
    local charged = charged_for_a_lost_worker()
    redis.call('HDEL', TASK, 'worker', 'lease_until', 'claim_nonce')
    change(false, 'status', 'PENDING', 'charged', charged)
  end
else
  redis.call('HDEL', TASK, 'worker', 'lease_until', 'claim_nonce') -- a status set by hand leaves them behind
end
if redis.call('HGET', TASK, 'next_guard') ~= A.copy then -- not sent twice
  redis.call('HINCRBY', TASK, 'redrives', 1)
  redis.call('HSET', TASK, 'next_guard', A.copy)
end
local attempt, charged, envelope, checkpoint = get('attempt', 'charged', 'envelope', 'checkpoint')
return {'PUBLISH', run, whole(math.max(0, number_of('not_before') - now())), attempt, charged, envelope or '', checkpoint or ''}
