-- Mark idle workers as draining; answers the names of all that are marked then.
-- ARGV: how many more at most, ms of a mark, ms after which a silent worker does not count,
--       token of this call: sent again after a lost answer, it marks nobody else
local t, left, mark = now(), tonumber(ARGV[1]), p .. 'draining'
even_when_full()
call('ZREMRANGEBYSCORE', mark, '-inf', t)
if call('GET', p .. 'drained') == ARGV[4] then left = 0 end
call('SET', p .. 'drained', ARGV[4], 'PX', ARGV[2])
local taken = {}
for _, name in ipairs(call('ZRANGE', mark, 0, -1)) do taken[name] = true end
for _, id in ipairs(call('ZRANGE', p .. 'lease', 0, -1)) do
  local owner = call('HGET', p .. 't:' .. id, 'ow')
  if owner then taken[name_of(worker_of(owner))] = true end
end
-- Whoever was heard of last comes first: it lives for certain.
for _, worker in ipairs(call('ZREVRANGEBYSCORE', p .. 'workers', '+inf', t - ARGV[3])) do
  local name = name_of(worker)
  if left > 0 and not taken[name] then
    call('ZADD', mark, t + ARGV[2], name)
    taken[name], left = true, left - 1
  end
end
call('PEXPIRE', mark, ARGV[2]) -- of no use after its last mark
return call('ZRANGE', mark, 0, -1)
