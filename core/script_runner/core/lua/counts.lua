-- Answers the number of queued tasks, of running tasks and of workers, then the counters:
-- name, value, ...
-- ARGV: ms after which a silent worker does not count
local answer = {call('ZCARD', p .. 'ready') + call('ZCARD', p .. 'delayed'),
                call('ZCARD', p .. 'lease'),
                call('ZCOUNT', p .. 'workers', now() - ARGV[1], '+inf')}
for _, word in ipairs(call('HGETALL', p .. 'stat')) do answer[#answer + 1] = word end
return answer
