-- hand_set: of some hashes, those that somebody has set to PENDING by hand although they had ended. Reads only.
-- KEYS: hashes of tasks, all of one shard   replies their keys
local found = {}
for _, key in ipairs(KEYS) do
  local status, finished_at = unpack(redis.call('HMGET', key, 'status', 'finished_at'))
  if status == 'PENDING' and finished_at then
    found[#found + 1] = key
  end
end
return found
