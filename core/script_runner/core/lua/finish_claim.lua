-- Finish one attempt, if there is one, and claim the next task, if one is wanted. Answers how the
-- attempt ended, the claim, and for how many ms this worker is to claim nothing.
-- ARGV: lease owner, lease ms, concurrency, claim: yes, no or again (the answer was lost), retention ms,
--       then id, attempt, state or 'queued', outcome, delay ms, reason, charge, bytes stored
local worker, lease, limit, retention = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[5]
local t = now()
local function finish(id, att, state, outcome, delay, reason, charge, bytes)
  local h = facts(id)
  if h[2] ~= att or h[3] ~= worker or h[1] ~= 'running' then
    -- The same call again after a lost answer is no late attempt.
    if h[2] == att and h[3] == worker and terminal[h[1]] then return 'done' end
    call('HINCRBY', p .. 'stat', 'fenced', 1)
    return 'fenced'
  end
  call('ZREM', p .. 'lease', id)
  if state == 'queued' and h[8] then state = 'canceled' end
  if state == 'queued' then
    requeue(id, t, reason, tonumber(delay), charge, h)
    return 'queued'
  end
  if outcome ~= '' then call('SET', p .. 'r:' .. id, outcome) end
  store_bytes(id, h[7], tonumber(bytes))
  settle(id, t, state, h[7], h[5], h[6], 'running', retention)
  return 'done'
end
local function claimed(id, att, h)
  return {id, tonumber(att), call('GET', p .. 'i:' .. id), h[6], h[5] or '0', h[2], h[7]}
end
local function known(id)
  return call('HMGET', p .. 't:' .. id, 'st', 'o', 'cr', 'sq', 'ch', 'cd', 'pr', 'at', 'ow')
end
-- The answer to an earlier claim may have been lost: it is given again.
local function unanswered()
  for _, id in ipairs(call('ZRANGE', p .. 'lease', 0, -1)) do
    local h = known(id)
    if h[9] == worker then
      call('ZADD', p .. 'lease', t + lease, id)
      return claimed(id, h[8], h)
    end
  end
end
local function claim()
  if limit > 0 and call('ZCARD', p .. 'lease') >= limit then return {} end
  local id = call('ZPOPMIN', p .. 'ready')[1]
  if not id then
    call('DEL', p .. 'wake') -- nothing waits: every wake-up would be in vain
    return {}
  end
  local h = known(id)
  if h[1] ~= 'queued' then return claim() end
  local att = (h[8] or 0) + 1
  move(id, h[2], h[3], h[4], 'queued', 'running', 'at', att, 'ow', worker, 'sa', t)
  call('ZADD', p .. 'lease', t + lease, id)
  call('HINCRBY', p .. 'stat', 'started', 1)
  call('PUBLISH', p .. 'ev:' .. id, 'running')
  return claimed(id, att, h)
end
-- A worker that is marked as draining claims nothing. The wake-up that brought it here is another's.
local function kept_off()
  local till = tonumber(call('ZSCORE', p .. 'draining', name_of(worker_of(worker))) or 0)
  if till <= t then return 0 end
  local waiting = math.min(call('ZCARD', p .. 'ready'), @MAX_WAKES@)
  if call('LLEN', p .. 'wake') < waiting then wake(1) end
  return till - t
end
local ended, next, wait = '', nil, 0
even_when_full()
if ARGV[6] then
  ended = finish(ARGV[6], ARGV[7], ARGV[8], ARGV[9], ARGV[10], ARGV[11], ARGV[12], ARGV[13])
end
if ARGV[4] == 'again' then next = unanswered() end
if ARGV[4] ~= 'no' and not next then
  wait = kept_off()
  if wait == 0 then next = claim() end
end
return {ended, next or {}, wait}
