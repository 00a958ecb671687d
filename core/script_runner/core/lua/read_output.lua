-- Answers state, attempt, owner, stored bytes, bytes known, data.
-- ARGV: id, stream, field, offset, limit
local id, offset = ARGV[1], tonumber(ARGV[4])
local h = call('HMGET', p .. 't:' .. id, 'st', 'at', 'ow', ARGV[3])
if not h[1] then return false end
local stored, key = tonumber(h[4] or 0), output_key(id, h[2] or '0', h[3] or '', ARGV[2])
local data = ''
if offset >= stored then
  data = call('GETRANGE', key, offset - stored, offset - stored + ARGV[5] - 1)
end
return {h[1], h[2] or '0', h[3] or '', stored, stored + call('STRLEN', key), data}
