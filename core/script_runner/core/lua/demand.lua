-- Answers the number of queued and of running tasks, the workers that live, the names marked now.
-- ARGV: ms after which a silent worker does not count
local t = now()
return {call('ZCARD', p .. 'ready') + call('ZCARD', p .. 'delayed'), call('ZCARD', p .. 'lease'),
        call('ZRANGEBYSCORE', p .. 'workers', t - ARGV[1], '+inf'),
        call('ZRANGEBYSCORE', p .. 'draining', '(' .. t, '+inf')}
