-- A part of a Dict as a whole.

--- length: read clock dict let_go remove sweep answer
local status = open()
if status then return once(status) end
sweep(1000)
return answer(once(@OK, 0, tostring(call('ZCARD', order) - 1)))

--- sweep: read clock dict let_go remove sweep answer
if not open() then sweep(20) end
return answer(once(@OK))

--- page: read clock dict use let_go remove packed answer
-- ARGV: the key after which it begins, how many at most, whether with values. Answers entries, before them where there is more
local status = open()
if status then return once(status) end
local with_values, most = ARGV[3] ~= '', tonumber(ARGV[2])
local entries, size, last, more = {}, 0, '', ''
for index, key in ipairs(call('ZRANGEBYLEX', order, '(' .. ARGV[1], '+', 'LIMIT', 0, most + 1)) do
    if index > most or size > @PAGE_BYTES_MAX then
        more = last
        break
    end
    local record = call('HGET', hash, 'e' .. key)
    last = key
    if record and lives(record) then
        local key_object, value = parts(record)
        if with_values then use('e' .. key, record) else value = nil end
        entries[#entries + 1] = packed(key, key_object, value)
        size = size + #entries[#entries]
    elseif record then
        let_go(remove('e' .. key, record))
    end
end
leaves = nil
return answer(once(@OK, 0, packed(more, '', '') .. table.concat(entries)))

--- clear: clock once dict let_all_go answer
local status = open()
if status then return once(status) end
local kept = call('HMGET', hash, 't', 'd', 'w', 'l', 'n', 'b', 'a')
local names, fields = {'t', 'd', 'w', 'l', 'n', 'b', 'a'}, {'v', version}
for index, name in ipairs(names) do
    if kept[index] then
        fields[#fields + 1] = name
        fields[#fields + 1] = kept[index]
    end
end
let_all_go()
call('HSET', hash, unpack(fields))
call('ZADD', order, 0, '')
if leaves then call('HSET', hash, 'g', 1) end
told = 0
if lease then expire(lease) end
keep()
return answer(once(@OK, version))

--- register: read clock dict
-- ARGV: ttl in ms, its version, lease in ms or '', environment, who made it
local status = open()
if status == @DICT_NOT_FOUND then return once(status, 0, 'it was deleted') end
if not status then return once(@OK) end
call('HSET', hash, 't', ARGV[1], 'w', ARGV[2], 'n', ARGV[4], 'b', ARGV[5], 'a', micros)
call('ZADD', order, 0, '')
ttl, told, lease = tonumber(ARGV[1]), 0, false
if ARGV[3] ~= '' then
    call('HSET', hash, 'l', ARGV[3])
    expire(ARGV[3])
else
    keep()
end
return once(@OK)

--- drop: read clock dict let_all_go answer
open()
let_all_go()
call('HSET', hash, 't', 'x')
expire(@TOMBSTONE_MS)
return answer(once(@OK))

--- collect: read clock dict answer
-- ARGV: ids of blobs that are removed
call('SREM', garbage, unpack(ARGV))
leaves = call('EXISTS', garbage) == 1
return answer(once(@OK))

--- renew: read clock dict
local status = open()
if status then return once(status) end
if lease then expire(lease) end
return once(@OK)

--- set_ttl: read clock dict
-- ARGV: ttl in ms, its version
local status = open()
if status then return once(status) end
local of = call('HGET', hash, 'w')
if tonumber(ARGV[2]) > tonumber(of or 0) then
    if ttl > 0 then dead = math.max(dead, now - life() + 1) end
    ttl = tonumber(ARGV[1])
    call('HSET', hash, 't', ARGV[1], 'w', ARGV[2], 'd', dead)
    told = 0
    if lease then
        -- the lease goes on
    elseif ttl == 0 then
        for index = 1, 4 do call('PERSIST', KEYS[index]) end
    else
        keep()
    end
end
return once(@OK)
