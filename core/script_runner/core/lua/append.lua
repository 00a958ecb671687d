-- Add output; answers the bytes known now, or -1 when the lease is lost.
-- ARGV: id, attempt, lease owner, stream, field, offset, data
local id, att, worker = ARGV[1], ARGV[2], ARGV[3]
local h = call('HMGET', p .. 't:' .. id, 'st', 'at', 'ow', ARGV[5])
if h[1] ~= 'running' or h[2] ~= att or h[3] ~= worker then return -1 end
local key = output_key(id, att, worker, ARGV[4])
local known = (h[4] or 0) + call('STRLEN', key)
if known ~= tonumber(ARGV[6]) then return known end
call('APPEND', key, ARGV[7])
call('PUBLISH', p .. 'ev:' .. id, 'output')
return known + #ARGV[7]
