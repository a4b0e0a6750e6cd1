-- restore: Redis forgot the task; its living worker brings it back from memory.
-- nonce, lease   run, token   guard   -- field, value, …
-- replies 'HELD' (restored, or still there) | 'LOST' (somebody else's by now)
epoch()
local state = held(A.run, A.token)
if state ~= 'MISSING' then
  return state
end
anew(number_of('seq'))
published()
change(true, 'status', 'PROCESSING', 'run', A.run, 'token', A.token, 'guard', A.guard,
  'lease_until', whole(now() + tonumber(A.lease)))
return 'HELD'
