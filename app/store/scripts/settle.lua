-- settle: the end of a task. Its order and its checkpoint go; the rest is shown until it expires.
-- KEYS[1] task hash   ARGV[1] fencing token   ARGV[2] COMPLETED, FAILED or CANCELLED
-- ARGV[3] how long Redis shows it, ms   ARGV[4] result, JSON or ''   ARGV[5] error, JSON or ''
-- ARGV[6] how long the result is kept, ms
-- replies {'SETTLED', document} (also when an earlier sending of this call settled it) | {'LOST'} | {'MISSING'}
local held = held_by(KEYS[1], ARGV[1])
if held ~= 'HELD' then
  local status, token = unpack(redis.call('HMGET', KEYS[1], 'status', 'token'))
  if status == ARGV[2] and token == ARGV[1] then
    return {'SETTLED', document(KEYS[1])}
  end
  return {held}
end
local ended = now()
if ARGV[2] == 'COMPLETED' then
  redis.call('HSET', KEYS[1], 'progress', 100)
end
if ARGV[4] ~= '' then
  redis.call('HSET', KEYS[1], 'result', ARGV[4], 'expires_at', whole(ended + tonumber(ARGV[6])))
end
if ARGV[5] ~= '' then
  redis.call('HSET', KEYS[1], 'error', ARGV[5])
end
redis.call('HDEL', KEYS[1], 'envelope', 'checkpoint', 'checkpoint_progress', 'committed_in', 'charged', 'guard',
  'next_guard', 'worker', 'lease_until', 'nonce', 'claim_nonce')
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return {'SETTLED', change(KEYS[1], false, 'status', ARGV[2], 'finished_at', whole(ended))}
