-- Large values, in chunks. KEYS[5]: the blob.

--- write_chunk: read
-- ARGV: offset, data
call('HSET', KEYS[5], ARGV[1], ARGV[2])
call('PEXPIRE', KEYS[5], @UPLOAD_MS)
return once(@OK)

--- seal: read
-- ARGV: size
local size = 0
for _, offset in ipairs(call('HKEYS', KEYS[5])) do size = size + call('HSTRLEN', KEYS[5], offset) end
if size ~= tonumber(ARGV[1]) then return once(@UNKNOWN_BLOB) end
if call('PTTL', KEYS[5]) > 0 then call('PEXPIRE', KEYS[5], @UPLOAD_MS) end
return once(@OK)

--- drop_blob: read
-- KEYS[3]: the blobs that are owned; ARGV: id
if call('SISMEMBER', KEYS[3], ARGV[1]) == 0 then call('UNLINK', KEYS[5]) end
return once(@OK)
