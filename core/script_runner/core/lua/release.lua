-- Let go of a key whose upload came to nothing.
-- ARGV: owner, key, token
local idem = idempotency(ARGV[1], ARGV[2])
if call('GET', idem) == 'R' .. ARGV[3] then return call('DEL', idem) end
return 0
