-- log: a handler's lines, put at the end of the task's log, and published. While the task lives the log has no TTL.
-- nonce   run, token   after: number of the last line that the caller has written, or 0   keep: how many lines stay
-- lines: JSON, [[ms, level, message], …], one at least
-- replies {'HELD', number of the last line} (also when an earlier sending of this call wrote them) | {'LOST'} | {'MISSING'}
local state = held(A.run, A.token)
if state ~= 'HELD' then
  return {state}
end
local last, newest = 0, redis.call('XREVRANGE', LOGS, '+', '-', 'COUNT', 1)[1]
if newest then
  last = tonumber(string.match(newest[1], '^%d+'))
  if newest[2][2] == A.nonce then
    return {'HELD', last}
  end
end
last = math.max(last, tonumber(A.after)) -- a Redis that was emptied goes on counting where its worker is
local first = last + 1
for _, line in ipairs(cjson.decode(A.lines)) do
  last = last + 1
  redis.call('XADD', LOGS, 'MAXLEN', A.keep, whole(last) .. '-0',
    'call', A.nonce, 'time', whole(line[1]), 'level', line[2], 'message', line[3])
end
redis.call('PERSIST', LOGS) -- of an earlier run, it was to go
redis.call('PUBLISH', CHANNEL .. redis.call('HGET', TASK, 'owner'), '["' .. TASK .. '",' .. whole(first) .. ',' .. A.lines .. ']')
return {'HELD', last}
