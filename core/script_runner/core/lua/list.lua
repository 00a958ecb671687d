-- Answers id, score, id, score, ... of a caller's tasks, newest first in each state.
-- ARGV: owner, upper score, lower score, limit, states...
local found = {}
for i = 5, #ARGV do
  local part = call('ZRANGE', index(ARGV[1], ARGV[i]), ARGV[2], ARGV[3],
                    'BYSCORE', 'REV', 'LIMIT', 0, ARGV[4], 'WITHSCORES')
  for j = 1, #part do found[#found + 1] = part[j] end
end
return found
