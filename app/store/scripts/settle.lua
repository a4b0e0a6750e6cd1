-- settle: the end of a run, as its row in SQL has it, whatever token is there. Changes a hash that is there, makes none.
-- run, status, seq: of the row   ttl: how long Redis shows it, ms   -- field, value, … (the row's document)
-- own: '' or the id of the message for which the caller has made the hash: a `created` of its own becomes that end, too
-- replies {'SETTLED', seq} | {'OTHER'} (a later run, a deleted task, or another's `created`) | {'MISSING'}
local status, run, guard, seq = get('status', 'run', 'guard', 'seq')
if not status then
  return {'MISSING'}
end
if status == 'forgotten' or tonumber(run) > tonumber(A.run) then
  return {'OTHER'}
end
-- What is not seen yet may be the trace of a task that was deleted since the row was read: it is its maker's to decide.
if (status == 'created' or status == 'aborted') and guard ~= A.own then
  return {'OTHER'}
end
redis.call('ZREM', LIVE, ID)
if status == A.status and run == A.run then
  return {'SETTLED', seq}
end
-- The row's seq leaves room for changes since it was chosen; should they have been more, rising matters more. But what
-- nobody has seen has no seq to rise above: SQL shows the row's own again, once Redis holds the task no more.
local seen = (status == 'created' or status == 'aborted') and 0 or tonumber(seq)
anew(math.max(seen, tonumber(A.seq) - 1))
redis.call('PEXPIRE', TASK, A.ttl)
redis.call('PEXPIRE', LOGS, A.ttl)
local _, newest = change(false, 'status', A.status)
return {'SETTLED', newest}
