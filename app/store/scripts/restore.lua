-- restore: Redis forgot the task; its living worker brings it back from memory. The guard is left empty: the worker may
-- not know what it has become, since others park copies. The first message of this run that is claimed becomes it.
-- nonce, lease   run, token   -- field, value, …
-- replies 'HELD' (restored, or still there) | 'LOST' (somebody else's by now)
epoch()
local state = held(A.run, A.token)
if state ~= 'MISSING' then
  return state
end
anew(number_of('seq'))
published()
change(true, 'status', 'PROCESSING', 'run', A.run, 'token', A.token, 'guard', '',
  'lease_until', whole(now() + tonumber(A.lease)))
return 'HELD'
