-- forget: DELETE has been asked for; nothing that carries this task may start it any more.
-- owner   ttl: how long the mark stays, ms   again: '1' after its row was blanked: mark it whatever is there
-- replies 'FORGOTTEN' | 'ALIVE' (it has not ended; nothing was changed)
local status = redis.call('HGET', TASK, 'status')
if A.again ~= '1' and (status == 'PENDING' or status == 'PROCESSING' or status == 'created') then
  return 'ALIVE'
end
local run, seq = number_of('run'), number_of('seq')
redis.call('DEL', TASK, LOGS)
redis.call('ZREM', LIVE, ID)
redis.call('HSET', TASK, 'status', 'forgotten', 'owner', A.owner, 'run', run, 'seq', whole(seq))
redis.call('PEXPIRE', TASK, A.ttl)
return 'FORGOTTEN'
