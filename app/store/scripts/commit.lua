-- commit: store a checkpoint; a later attempt starts from it. Counts as a beat.
-- KEYS[1] task hash   ARGV[1] fencing token   ARGV[2] lease, ms   ARGV[3] sealed checkpoint   ARGV[4] progress, 0-100
-- replies 'HELD' (stored) | 'LOST' | 'MISSING'
local held = held_by(KEYS[1], ARGV[1])
if held ~= 'HELD' then
  return held
end
local progress, attempt = unpack(redis.call('HMGET', KEYS[1], 'progress', 'attempt'))
local newest = math.max(tonumber(progress), tonumber(ARGV[4]))
redis.call('HSET', KEYS[1], 'lease_until', whole(now() + tonumber(ARGV[2])), 'checkpoint', ARGV[3],
  'checkpoint_progress', newest, 'committed_in', attempt)
if newest > tonumber(progress) then
  change(KEYS[1], false, 'progress', newest)
end
return 'HELD'
