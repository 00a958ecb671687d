-- An upload begins: its bytes are removed one day if it never becomes a task.
-- ARGV: id
return call('ZADD', p .. 'retained', now() + @UPLOAD_MS@, ARGV[1])
