-- Hold an Idempotency-Key while an upload runs.
-- ARGV: owner, key, token
local idem = idempotency(ARGV[1], ARGV[2])
local held = call('GET', idem)
if held and string.sub(held, 1, 1) == 'R' and held ~= 'R' .. ARGV[3] then return 'busy' end
if held and string.sub(held, 1, 1) == 'T' then return 'known' end
call('SET', idem, 'R' .. ARGV[3], 'PX', @RESERVATION_MS@)
return 'held'
