-- Answers the record's fields, its outcome and its inputs.
-- ARGV: id
local id = ARGV[1]
return {call('HGETALL', p .. 't:' .. id), call('GET', p .. 'r:' .. id) or '',
        call('GET', p .. 'i:' .. id) or ''}
