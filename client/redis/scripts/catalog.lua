-- Which Dicts exist. KEYS: entries by "environment/name", these names in order, names by id. An entry: when it was made, its ttl
-- in seconds (-1: none), the version of that, whether it is being deleted, its id, the length of its name, that, who made it.

--- names
local entries, names, ids = KEYS[1], KEYS[2], KEYS[3]

--- create: clock once names
-- ARGV: number, lowest, name, id, ttl, who makes it, x: or give the one there is
local found = call('HGET', entries, ARGV[3])
if found then
    if ARGV[7] ~= '' or found:byte(25) == 1 then return once(@OK, 0, found) end
    return once(@ALREADY_EXISTS, 0, 'a Dict of this name exists')
end
local entry = struct.pack('<ddd', micros / 1000000, ARGV[5], 0) .. '\0' .. ARGV[4]
entry = entry .. struct.pack('<I4', #ARGV[3]) .. ARGV[3] .. ARGV[6]
call('HSET', entries, ARGV[3], entry)
call('ZADD', names, 0, ARGV[3])
call('HSET', ids, ARGV[4], ARGV[3])
return once(@OK, micros, entry)

--- lookup: read names
-- ARGV: name, or '' and an id
local name = ARGV[1] ~= '' and ARGV[1] or call('HGET', ids, ARGV[2])
local found = name and call('HGET', entries, name)
return found and once(@OK, 0, found) or once(@MISSING)

--- list: read names
-- ARGV: the name after which it begins, the environment's prefix, how many at most. Answers x: there may be more, then entries
local after = ARGV[1] ~= '' and '(' .. ARGV[1] or '[' .. ARGV[2]
local found = call('ZRANGEBYLEX', names, after, '(' .. ARGV[2]:sub(1, -2) .. '0', 'LIMIT', 0, ARGV[3])
local answer = {#found == tonumber(ARGV[3]) and 'x' or '-'}
for _, name in ipairs(found) do
    local entry = call('HGET', entries, name)
    answer[#answer + 1] = struct.pack('<i4', #entry) .. entry
end
return once(@OK, 0, table.concat(answer))

--- change_ttl: clock once names
-- ARGV: number, lowest, name, id, ttl
local found = call('HGET', entries, ARGV[3])
if not found or found:byte(25) == 1 or found:sub(26, 41) ~= ARGV[4] then return once(@MISSING) end
found = found:sub(1, 8) .. struct.pack('<dd', ARGV[5], micros) .. found:sub(25)
call('HSET', entries, ARGV[3], found)
return once(@OK, 0, found)

--- mark_deleted: clock once names
-- ARGV: number, lowest, name
local found = call('HGET', entries, ARGV[3])
if not found then return once(@MISSING) end
found = found:sub(1, 24) .. '\1' .. found:sub(26)
call('HSET', entries, ARGV[3], found)
return once(@OK, 0, found)

--- remove: clock once names
-- ARGV: number, lowest, name, id
local found = call('HGET', entries, ARGV[3])
if found and found:byte(25) == 1 and found:sub(26, 41) == ARGV[4] then
    call('HDEL', entries, ARGV[3])
    call('ZREM', names, ARGV[3])
    call('HDEL', ids, ARGV[4])
end
return once(@OK)

--- layout: read
-- KEYS[1]: the layout; ARGV: format, parts, id, for the first client. Answers these as they are
if call('EXISTS', KEYS[1]) == 0 then call('HSET', KEYS[1], 'format', ARGV[1], 'parts', ARGV[2], 'id', ARGV[3]) end
return call('HMGET', KEYS[1], 'format', 'parts', 'id')
