-- Answers ids whose time is over; each comes again in ten minutes unless it is forgotten.
-- ARGV: limit
local t, ids = now(), {}
even_when_full()
for _, id in ipairs(call('ZRANGEBYSCORE', p .. 'retained', '-inf', t, 'LIMIT', 0, ARGV[1])) do
  local state = call('HGET', p .. 't:' .. id, 'st')
  if state and not terminal[state] then
    call('ZREM', p .. 'retained', id)
  else
    call('ZADD', p .. 'retained', t + 600000, id)
    ids[#ids + 1] = id
  end
end
return ids
