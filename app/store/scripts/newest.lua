-- newest: a shard's living tasks of all owners, the newest first. Reads only, and only a stretch of them.
-- offset, stretch: of the shard's living tasks
-- before, before_id: only what stands behind this place, a `created_at` in ms and an id; '' for all
-- statuses, actions, labels: JSON arrays; any of the first two, all of the last; [] for all   count: how many at most
-- replies {seen, {created_at, id, …}}, by falling created_at, then by falling id
local TASK_PREFIX = string.gsub(LIVE, ':live$', ':task:')
local function set_of(text)
  local found, names = nil, {}
  for _, name in ipairs(cjson.decode(text)) do
    found, names[name] = true, true
  end
  return found and names
end
local statuses, actions, labels = set_of(A.statuses), set_of(A.actions), cjson.decode(A.labels)
local before = tonumber(A.before)

local function carries(text)
  for _, label in ipairs(labels) do
    if not text or not string.find(text, '"' .. label .. '"', 1, true) then
      return false
    end
  end
  return true
end

local found, from = {}, tonumber(A.offset)
local members = redis.call('ZRANGE', LIVE, from, from + tonumber(A.stretch) - 1)
for _, id in ipairs(members) do
  local status, action, created_at, carried = unpack(redis.call('HMGET', TASK_PREFIX .. id,
    'status', 'action', 'created_at', 'labels'))
  if (status == 'PENDING' or status == 'PROCESSING') and (not statuses or statuses[status])
    and (not actions or actions[action]) and carries(carried) then
    local created = tonumber(created_at)
    if not before or created < before or created == before and id < A.before_id then
      found[#found + 1] = {created, id}
    end
  end
end
table.sort(found, function(one, other)
  if one[1] == other[1] then
    return one[2] > other[2]
  end
  return one[1] > other[1]
end)
local flat = {}
for i = 1, math.min(#found, tonumber(A.count)) do
  flat[#flat + 1], flat[#flat + 2] = whole(found[i][1]), found[i][2]
end
return {#members, flat}
