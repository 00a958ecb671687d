-- So much of an output lies in the artifact store now; answers -1 when the lease is lost.
-- ARGV: id, attempt, lease owner, stream, field, stored bytes
local id, att, worker, stored = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[6])
local h = call('HMGET', p .. 't:' .. id, 'st', 'at', 'ow', ARGV[5])
if h[1] ~= 'running' or h[2] ~= att or h[3] ~= worker then return -1 end
local key, before = output_key(id, att, worker, ARGV[4]), tonumber(h[4] or 0)
if stored > before then
  local tail = call('GETRANGE', key, stored - before, -1)
  call('DEL', key)
  if tail ~= '' then call('SET', key, tail) end
  call('HSET', p .. 't:' .. id, ARGV[5], stored)
  call('PUBLISH', p .. 'ev:' .. id, 'output')
end
return 1
