-- Mark workers as draining: idle ones, and if so asked, once none is left, busy ones, which then
-- end what they hold. Answers the names that are marked then and hold no task.
-- ARGV: how many more at most, ms of a mark, ms after which a silent worker does not count,
--       token of this call: sent again after a lost answer, it marks nobody else,
--       busy ones too: yes or no
local t, left, mark = now(), tonumber(ARGV[1]), p .. 'draining'
even_when_full()
call('ZREMRANGEBYSCORE', mark, '-inf', t)
if call('GET', p .. 'drained') == ARGV[4] then left = 0 end
call('SET', p .. 'drained', ARGV[4], 'PX', ARGV[2])
local holding, marked, done = busy(), {}, {}
for _, name in ipairs(call('ZRANGE', mark, 0, -1)) do marked[name] = true end
-- Whoever was heard of last comes first: it lives for certain.
local alive = call('ZREVRANGEBYSCORE', p .. 'workers', '+inf', t - ARGV[3])
local function mark_each(is_busy, is_marked)
  for _, worker in ipairs(alive) do
    local name = name_of(worker)
    if left > 0 and not done[name] and (holding[name] or false) == is_busy
      and (marked[name] or false) == is_marked then
      call('ZADD', mark, t + ARGV[2], name)
      done[name], left = true, left - 1
    end
  end
end
mark_each(false, false)
if ARGV[5] == 'yes' then
  mark_each(true, true) -- the same ones again, so that their marks do not end before their tasks
  mark_each(true, false)
end
call('PEXPIRE', mark, ARGV[2]) -- of no use after its last mark
return without(call('ZRANGE', mark, 0, -1), holding)
