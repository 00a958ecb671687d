-- Recover the tasks of lost workers, wake what is due, expire what waited too long.
-- ARGV: lease ms, guard ms, max attempts, repeat lost?, retention ms, lost outcome, expired outcome
local t, lease = now(), tonumber(ARGV[1])
local last = call('GET', p .. 'reaped')
even_when_full()
call('SET', p .. 'reaped', t)
call('ZREMRANGEBYSCORE', p .. 'workers', 0, t - 10 * lease)
if not last or math.abs(t - last) > tonumber(ARGV[2]) then
  for _, id in ipairs(call('ZRANGE', p .. 'lease', 0, -1)) do
    call('ZADD', p .. 'lease', t + lease, id)
  end
  return 0
end
local lost = call('ZRANGEBYSCORE', p .. 'lease', '-inf', t, 'LIMIT', 0, 100)
for _, id in ipairs(lost) do
  local h = facts(id)
  call('ZREM', p .. 'lease', id)
  if h[1] == 'running' then
    call('HINCRBY', p .. 'stat', 'lost', 1)
    if h[8] then
      settle(id, t, 'canceled', h[7], h[5], h[6], 'running', ARGV[5])
    elseif ARGV[4] == '1' and tonumber(h[9] or '0') + 1 < tonumber(ARGV[3]) then
      requeue(id, t, 'lost', 0, 1, h)
    else
      call('SET', p .. 'r:' .. id, ARGV[6])
      settle(id, t, 'errored', h[7], h[5], h[6], 'running', ARGV[5])
    end
  end
end
for _, id in ipairs(call('ZRANGEBYSCORE', p .. 'delayed', '-inf', t, 'LIMIT', 0, 500)) do
  local h = facts(id)
  call('ZREM', p .. 'delayed', id)
  if h[1] == 'queued' then
    call('HDEL', p .. 't:' .. id, 'nb')
    call('ZADD', p .. 'ready', ready_score(h[4], h[6]), id)
  end
end
for _, id in ipairs(call('ZRANGEBYSCORE', p .. 'unstarted', '-inf', t, 'LIMIT', 0, 500)) do
  local h = facts(id)
  call('ZREM', p .. 'unstarted', id)
  if h[1] == 'queued' and not h[2] then
    call('ZREM', p .. 'ready', id)
    call('SET', p .. 'r:' .. id, ARGV[7])
    settle(id, t, 'expired', h[7], h[5], h[6], 'queued', ARGV[5])
  end
end
-- Wake-ups may be lost, so their number is topped up from what is really waiting.
local missing = math.min(call('ZCARD', p .. 'ready'), 16) - call('LLEN', p .. 'wake')
if missing > 0 then wake(missing) end
return #lost
