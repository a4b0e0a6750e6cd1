-- beat: keep the lease, and store the newest progress.
-- KEYS[1] task hash   ARGV[1] fencing token   ARGV[2] lease, ms   ARGV[3] progress, 0-100   ARGV[4] message, or ''
-- replies 'HELD' | 'LOST' (another token is newer, or the task has ended: write nothing more)
--       | 'MISSING' (Redis forgot the task)
local held = held_by(KEYS[1], ARGV[1])
if held ~= 'HELD' then
  return held
end
redis.call('HSET', KEYS[1], 'lease_until', whole(now() + tonumber(ARGV[2])))
local progress, message = unpack(redis.call('HMGET', KEYS[1], 'progress', 'message'))
local newest = math.max(tonumber(progress), tonumber(ARGV[3]))
local words = ARGV[4] ~= '' and ARGV[4] or message or ''
if newest > tonumber(progress) or words ~= (message or '') then
  change(KEYS[1], false, 'progress', newest, 'message', words)
end
return 'HELD'
