-- Remove all that Redis holds of a terminal task.
-- ARGV: id
local id = ARGV[1]
local h = facts(id)
call('ZREM', p .. 'retained', id)
if not h[1] then return 0 end
local bytes = tonumber(call('HGET', p .. 't:' .. id, 'by') or 0)
if bytes > 0 and call('HINCRBY', p .. 'bytes', h[7], -bytes) <= 0 then
  call('HDEL', p .. 'bytes', h[7])
end
call('DEL', p .. 't:' .. id, p .. 'r:' .. id, p .. 'i:' .. id)
if h[3] then
  call('DEL', output_key(id, h[2], h[3], 'stdout'), output_key(id, h[2], h[3], 'stderr'))
end
call('ZREM', index(h[7], h[1]), id)
call('HINCRBY', p .. 'stat', 'forgotten_' .. h[1], 1)
return 1
