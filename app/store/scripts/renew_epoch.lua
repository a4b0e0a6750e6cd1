-- renew_epoch: Redis may have lost what it had: it is another process than the one that the epoch began on.
-- nonce   server: its run_id   old: '1' if nobody runs, so that nobody need be waited for
-- replies 'RENEWED' | 'SAME'
local id, server = unpack(redis.call('HMGET', EPOCH, 'id', 'server'))
if A.old ~= '1' and id and (not server or server == A.server) then
  redis.call('HSET', EPOCH, 'server', A.server)
  return 'SAME'
end
redis.call('HSET', EPOCH, 'id', A.nonce, 'server', A.server, 'since', A.old == '1' and '0' or whole(now()))
return 'RENEWED'
