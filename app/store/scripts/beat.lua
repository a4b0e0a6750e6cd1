-- beat: keep the lease, store the newest progress, bring back what the owner wants.
-- lease   run, token   progress: 0-100   message: or ''
-- replies {'HELD', seq} | {'CANCEL', seq} (still held, asked to stop)
--       | {'LOST'} (another token is newer, or the task has ended: write nothing more)
--       | {'MISSING'} (Redis forgot the task: restore it, or stop)
local state = held(A.run, A.token)
if state ~= 'HELD' then
  return {state}
end
redis.call('HSET', TASK, 'lease_until', whole(now() + tonumber(A.lease)))
local progress, message, cancel = get('progress', 'message', 'cancel')
local newest = math.max(tonumber(progress), tonumber(A.progress))
local words = A.message ~= '' and A.message or message or ''
if newest > tonumber(progress) or words ~= (message or '') then
  change(false, 'progress', newest, 'message', words)
end
return {cancel == '1' and 'CANCEL' or 'HELD', redis.call('HGET', TASK, 'seq')}
