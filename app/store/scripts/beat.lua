-- beat: keep the lease, store the newest progress, bring back what the owner wants.
-- lease   run, token   progress: 0-100   message: or ''
-- replies {'HELD', seq} | {'CANCEL', seq} (still held, asked to stop)
--       | {'LOST'} (another token is newer, or the task has ended: write nothing more)
--       | {'MISSING'} (Redis forgot the task: restore it, or stop)
local state, progress, message, cancel, seq = held(A.run, A.token, 'progress', 'message', 'cancel', 'seq')
if state ~= 'HELD' then
  return {state}
end
local lease_until = whole(now() + tonumber(A.lease))
local newest = math.max(tonumber(progress), tonumber(A.progress))
local words = A.message ~= '' and A.message or message or ''
if newest > tonumber(progress) or words ~= (message or '') then
  seq = select(2, change(false, 'progress', newest, 'message', words, 'lease_until', lease_until))
else
  redis.call('HSET', TASK, 'lease_until', lease_until)
end
return {cancel == '1' and 'CANCEL' or 'HELD', seq}
