-- End a queued task, or ask the worker of a running one to stop it.
-- ARGV: id, retention ms
local id = ARGV[1]
local h = facts(id)
even_when_full()
if h[1] == 'queued' then
  call('ZREM', p .. 'ready', id)
  call('ZREM', p .. 'delayed', id)
  call('HDEL', p .. 't:' .. id, 'nb')
  settle(id, now(), 'canceled', h[7], h[5], h[6], 'queued', ARGV[2])
elseif h[1] == 'running' and not h[8] then
  call('HSET', p .. 't:' .. id, 'cx', 1)
  call('PUBLISH', p .. 'ctl:' .. worker_of(h[3]), id)
  call('PUBLISH', p .. 'ev:' .. id, 'canceling')
end
return h[1]
