-- commit: store a checkpoint; a later attempt starts from it. Counts as a beat.
-- lease   run, token   checkpoint: sealed   progress: 0-100
-- replies 'HELD' (stored) | 'LOST' | 'MISSING'
local state, progress, attempt = held(A.run, A.token, 'progress', 'attempt')
if state ~= 'HELD' then
  return state
end
local newest = math.max(tonumber(progress), tonumber(A.progress))
redis.call('HSET', TASK, 'lease_until', whole(now() + tonumber(A.lease)), 'checkpoint', A.checkpoint,
  'checkpoint_progress', newest, 'committed_in', attempt)
if newest > tonumber(progress) then
  change(false, 'progress', newest)
end
return 'HELD'
