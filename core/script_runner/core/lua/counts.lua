-- Answers the number of queued and of running tasks, then the counters: name, value, ...
local answer = {call('ZCARD', p .. 'ready') + call('ZCARD', p .. 'delayed'),
                call('ZCARD', p .. 'lease')}
for _, word in ipairs(call('HGETALL', p .. 'stat')) do answer[#answer + 1] = word end
return answer
