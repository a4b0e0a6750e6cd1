-- census: what a shard's living tasks are at, counted by queue. Reads only, and only a stretch of them.
-- offset, count: the stretch of the shard's living tasks   since: ms, from which on a task counts as new
-- replies {seen, {queue, due, parked, running, new, …}, {id, 'lease-expired' or 'message-lost', since when in ms, …}}
--   due: PENDING, its time has come   parked: PENDING, not before a later time   running: PROCESSING
--   lease-expired: PROCESSING, and its worker is silent   message-lost: PENDING, and housekeeping had to send it again
local TASK_PREFIX = string.gsub(LIVE, ':live$', ':task:')
local from, time, since = tonumber(A.offset), now(), tonumber(A.since)
local members = redis.call('ZRANGE', LIVE, from, from + tonumber(A.count) - 1, 'WITHSCORES')
local queues, names, stalled = {}, {}, {}
for i = 1, #members, 2 do
  local status, queue, not_before, lease_until, created_at, redrives = unpack(redis.call('HMGET', TASK_PREFIX .. members[i],
    'status', 'queue', 'not_before', 'lease_until', 'created_at', 'redrives'))
  if status == 'PENDING' or status == 'PROCESSING' then
    local counts = queues[queue]
    if not counts then
      counts = {0, 0, 0, 0}
      queues[queue], names[#names + 1] = counts, queue
    end
    local kind = 3
    if status == 'PENDING' then
      kind = tonumber(not_before or '0') > time and 2 or 1
    end
    counts[kind] = counts[kind] + 1
    if tonumber(created_at) >= since then
      counts[4] = counts[4] + 1
    end
    if kind == 3 and tonumber(lease_until or '0') < time then
      stalled[#stalled + 1], stalled[#stalled + 2], stalled[#stalled + 3] = members[i], 'lease-expired', lease_until or '0'
    elseif kind == 1 and tonumber(redrives or '0') > 0 then
      stalled[#stalled + 1], stalled[#stalled + 2], stalled[#stalled + 3] = members[i], 'message-lost', members[i + 1]
    end
  end
end
local flat = {}
for _, name in ipairs(names) do
  flat[#flat + 1] = name
  for _, count in ipairs(queues[name]) do
    flat[#flat + 1] = count
  end
end
return {#members / 2, flat, stalled}
