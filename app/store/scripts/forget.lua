-- forget: DELETE has been asked for; nothing that carries this task may start it any more.
-- The first mark holds everything up until the row is blanked, and is provisional: it goes by itself, should DELETE die.
-- owner   ttl: how long the mark stays, ms   patience: how long the first one does, ms
-- again: '1' after its row was blanked: mark it whatever is there, and for good
-- replies 'FORGOTTEN' | 'ALIVE' (it has not ended; nothing was changed)
local status, provisional = get('status', 'provisional')
local again = A.again == '1'
if not again and (status == 'PENDING' or status == 'PROCESSING' or status == 'created') then
  return 'ALIVE'
end
if not again and status == 'forgotten' and not provisional then
  return 'FORGOTTEN'
end
local run, seq = number_of('run'), number_of('seq')
redis.call('DEL', TASK, LOGS)
redis.call('ZREM', LIVE, ID)
redis.call('HSET', TASK, 'status', 'forgotten', 'owner', A.owner, 'run', run, 'seq', whole(seq))
if not again then
  redis.call('HSET', TASK, 'provisional', '1')
end
redis.call('PEXPIRE', TASK, again and A.ttl or A.patience)
return 'FORGOTTEN'
