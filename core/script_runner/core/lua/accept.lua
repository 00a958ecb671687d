-- Make a request a task: record, index, queue and wake-up, or nothing.
-- ARGV: id, owner, priority, inputs, config digest, max queued, expire ms,
--       idempotency key, request digest, its ms, reservation,
--       quota: submissions a minute, active tasks, stored bytes (0: none); bytes uploaded
local MINUTE = 60000

-- Why owner may not submit now, or nil. The rate is counted by the generic cell rate
-- algorithm (ITU-T I.371): one time, when the bucket will be empty again, says it all.
local function over_quota(owner, t, per_minute, max_active, max_bytes)
  if max_active > 0 and call('ZCARD', index(owner, 'queued'))
      + call('ZCARD', index(owner, 'running')) >= max_active then
    return {'active', ''}
  end
  if max_bytes > 0 and tonumber(call('HGET', p .. 'bytes', owner) or 0) >= max_bytes then
    return {'bytes', ''}
  end
  if per_minute > 0 then
    local bucket, each = p .. 'rate:' .. owner, MINUTE / per_minute
    local empty = math.max(tonumber(call('GET', bucket) or t), t)
    local wait = empty - t - (MINUTE - each)
    if wait > 0 then return {'rate', tostring(math.ceil(wait))} end
    call('SET', bucket, string.format('%.3f', empty + each), 'PX', 2 * MINUTE)
  end
end

local id, owner, pri = ARGV[1], ARGV[2], tonumber(ARGV[3])
local key = p .. 't:' .. id
if call('EXISTS', key) == 1 then return {'same', id} end
local idem = ARGV[8] ~= '' and idempotency(owner, ARGV[8])
if idem then
  local held = call('GET', idem)
  if held and string.sub(held, 1, 1) == 'T' then
    local known, digest = string.sub(held, 2, 27), string.sub(held, 29)
    if call('EXISTS', p .. 't:' .. known) == 1 then
      if digest ~= ARGV[9] then return {'reused', known} end
      return {'same', known}
    end
  elseif held and held ~= 'R' .. ARGV[11] then
    return {'busy', ''}
  end
end
local waiting = call('ZCARD', p .. 'ready')
if waiting + call('ZCARD', p .. 'delayed') >= tonumber(ARGV[6]) then return {'full', ''} end
local t = now()
local refused = over_quota(owner, t, tonumber(ARGV[12]), tonumber(ARGV[13]), tonumber(ARGV[14]))
if refused then return refused end
local seq = call('INCR', p .. 'seq')
call('HSET', key, 'o', owner, 'st', 'queued', 'cr', t, 'pr', pri, 'sq', seq, 'cd', ARGV[5])
call('SET', p .. 'i:' .. id, ARGV[4])
call('ZADD', p .. 'ready', ready_score(pri, seq), id)
call('ZADD', index(owner, 'queued'), index_score(t, seq), id)
call('HINCRBY', p .. 'stat', 'accepted', 1)
if tonumber(ARGV[7]) > 0 then call('ZADD', p .. 'unstarted', t + ARGV[7], id) end
if ARGV[11] ~= '' then call('ZREM', p .. 'retained', id) end
store_bytes(id, owner, tonumber(ARGV[15]))
if idem then call('SET', idem, 'T' .. id .. ' ' .. ARGV[9], 'PX', ARGV[10]) end
if call('LLEN', p .. 'wake') < math.min(waiting + 1, @MAX_WAKES@) then wake(1) end
return {'new', id}
