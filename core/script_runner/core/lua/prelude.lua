-- What every script starts with. `move` alone changes a state, and it asks the table of core.task;
-- further fields of the record may be given to be set with it.
local p = KEYS[1]
local call = redis.call
local function now()
  local t = call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end
-- A full Redis (maxmemory) refuses a script that begins with a write that may need room, and lets
-- all of one through that begins with another: so leases, ends and retention do not wait for room.
local function even_when_full() call('ZREM', p .. 'workers', '') end
-- A lease owner is <worker>.<slot>, a worker <name>_<instance> or an instance alone; a name may
-- hold dots.
local function worker_of(owner) return string.match(owner, '^(.*)%.') or owner end
local function name_of(worker) return string.match(worker, '^(.*)_') or worker end
-- The names of workers that hold a task.
local function busy()
  local found = {}
  for _, id in ipairs(call('ZRANGE', p .. 'lease', 0, -1)) do
    local owner = call('HGET', p .. 't:' .. id, 'ow')
    if owner then found[name_of(worker_of(owner))] = true end
  end
  return found
end
local function without(names, others)
  local found = {}
  for _, name in ipairs(names) do
    if not others[name] then found[#found + 1] = name end
  end
  return found
end
local function index(owner, state) return p .. 'o:' .. owner .. ':' .. state end
-- With its length: an owner may hold a colon, and so may a key.
local function idempotency(owner, key) return p .. 'k:' .. #owner .. ':' .. owner .. ':' .. key end
local function index_score(created, seq) return created * 1000 + seq % 1000 end
local function ready_score(pri, seq) return (9 - pri) * 281474976710656 + seq end

local allowed = { @ALLOWED@ }
local terminal = { @TERMINAL@ }
local function move(id, owner, created, seq, from, to, ...)
  if not allowed[from .. '>' .. to] then
    error('no transition from ' .. from .. ' to ' .. to)
  end
  call('HSET', p .. 't:' .. id, 'st', to, ...)
  call('ZREM', index(owner, from), id)
  call('ZADD', index(owner, to), index_score(created, seq), id)
end

local function wake(count)
  for _ = 1, count do
    local token = string.format('w%d', call('INCR', p .. 'wakes'))
    call('LPUSH', p .. 'wake', (string.gsub([==[@MESSAGE@]==], '@ID@', token)))
  end
end

local function output_key(id, att, owner, stream)
  return p .. 'x:' .. id .. ':' .. att .. '-' .. owner .. ':' .. stream
end

-- What is kept for a task counts for its owner until the task is forgotten.
local function store_bytes(id, owner, count)
  if count == 0 then return end
  call('HINCRBY', p .. 't:' .. id, 'by', count)
  call('HINCRBY', p .. 'bytes', owner, count)
end

local function settle(id, t, state, owner, created, seq, from, retention)
  move(id, owner, created, seq, from, state, 'fi', t)
  call('DEL', p .. 'i:' .. id)
  call('ZADD', p .. 'retained', t + retention, id)
  call('HINCRBY', p .. 'stat', state, 1)
  call('PUBLISH', p .. 'done', id)
end

-- The attempt is over and another may follow; reason is for the record.
local function requeue(id, t, reason, delay, charge, h)
  local key = p .. 't:' .. id
  local att, worker, pri, seq = h[2], h[3], h[4], h[6]
  local log = call('HGET', key, 'lg')
  local entry = att .. ' ' .. (call('HGET', key, 'sa') or t) .. ' ' .. t .. ' ' .. reason
  call('HSET', key, 'lg', log and (log .. ',' .. entry) or entry)
  call('HDEL', key, 'ow', 'gO', 'gE')
  call('HINCRBY', key, 'ch', charge)
  call('DEL', output_key(id, att, worker, 'stdout'), output_key(id, att, worker, 'stderr'))
  move(id, h[7], h[5], seq, 'running', 'queued')
  if delay > 0 then
    call('HSET', key, 'nb', t + delay)
    call('ZADD', p .. 'delayed', t + delay, id)
  else
    call('ZADD', p .. 'ready', ready_score(pri, seq), id)
    wake(1)
  end
  call('HINCRBY', p .. 'stat', 'requeued_' .. reason, 1)
  call('PUBLISH', p .. 'ev:' .. id, 'queued')
end

local function facts(id)
  return call('HMGET', p .. 't:' .. id, 'st', 'at', 'ow', 'pr', 'cr', 'sq', 'o', 'cx', 'ch')
end
