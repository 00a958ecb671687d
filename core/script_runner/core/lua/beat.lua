-- Renew leases; tell which are lost and which tasks are to be stopped.
-- ARGV: worker, lease ms, then id, attempt, lease owner, id, attempt, lease owner, ...
local t = now()
even_when_full()
call('ZADD', p .. 'workers', t, ARGV[1])
local fenced, canceled = {}, {}
for i = 3, #ARGV, 3 do
  local id = ARGV[i]
  local h = call('HMGET', p .. 't:' .. id, 'st', 'at', 'ow', 'cx')
  if h[1] ~= 'running' or h[2] ~= ARGV[i + 1] or h[3] ~= ARGV[i + 2] then
    fenced[#fenced + 1] = id
  else
    call('ZADD', p .. 'lease', t + ARGV[2], id)
    if h[4] then canceled[#canceled + 1] = id end
  end
end
return {fenced, canceled}
