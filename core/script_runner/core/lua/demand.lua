-- Answers the number of queued and of running tasks, the workers that live, the names that are
-- marked now and hold no task.
-- ARGV: ms after which a silent worker does not count
local t = now()
local marked = call('ZRANGEBYSCORE', p .. 'draining', '(' .. t, '+inf')
if #marked > 0 then marked = without(marked, busy()) end
return {call('ZCARD', p .. 'ready') + call('ZCARD', p .. 'delayed'), call('ZCARD', p .. 'lease'),
        call('ZRANGEBYSCORE', p .. 'workers', t - ARGV[1], '+inf'),
        marked}
