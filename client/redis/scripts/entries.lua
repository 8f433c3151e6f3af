-- Single entries, and several at once.

--- get: read clock dict use answer
-- ARGV: key, whether its value is wanted
local status, record = open('e' .. ARGV[1])
if status then return once(status) end
if not record or not lives(record) then return once(@MISSING) end
use('e' .. ARGV[1], record)
local _, value, of = parts(record)
leaves = nil
return answer(ARGV[2] == '' and once(@OK) or once(@OK, of, value))

--- put: clock once dict use let_go store own answer
-- KEYS[6]: the blob, if it is one; ARGV: number, lowest, key, key object, value, x: if absent, d: if absent, else give it
local field, value, mode = 'e' .. ARGV[3], ARGV[5], ARGV[6]
local status, old = open(field)
if status then return once(status) end
if mode ~= '' and old and lives(old) then
    use(field, old)
    if KEYS[6] then call('UNLINK', KEYS[6]) end
    if mode == 'x' then return answer(once(@EXISTS)) end
    local _, there, of = parts(old)
    return answer(once(@EXISTS, of, there))
end
if KEYS[6] and not own(blob_of(value), KEYS[6]) then return once(@UNKNOWN_BLOB) end
store(field, old, ARGV[4], value)
return answer(once(@OK, version))

--- pop: clock once dict let_go remove answer
-- ARGV: number, lowest, key, whether the value is not wanted
local field = 'e' .. ARGV[3]
local status, record = open(field)
if status then return once(status) end
if not record or not lives(record) then return once(@MISSING) end
local value = remove(field, record)
call('HSET', hash, 'v', version)
keep()
if ARGV[4] ~= '' then
    let_go(value)
    value = ''
end
return answer(once(@OK, version, hand_over(value)))

--- pop_any: clock once dict let_go remove packed answer
-- ARGV: number, lowest. Answers an entry
local status = open()
if status then return once(status) end
for _ = 1, 20 do
    local keys = call('ZRANGEBYLEX', order, '(', '+', 'LIMIT', 0, 50)
    for _, key in ipairs(keys) do
        local record = call('HGET', hash, 'e' .. key)
        if not record then
            call('ZREM', order, key)
        else
            local value = remove('e' .. key, record)
            if lives(record) then
                local key_object = parts(record)
                call('HSET', hash, 'v', version)
                keep()
                return answer(once(@OK, version, packed(key, key_object, hand_over(value))))
            end
            let_go(value)
        end
    end
    if #keys == 0 then return answer(once(@MISSING)) end
end
return string.char(@UNAVAILABLE) .. struct.pack('<d', 0) .. 'expired entries are still being removed'

--- put_many: clock once dict use let_go own answer
-- KEYS[6], …: the blobs; ARGV: number, lowest, mode, then of each entry key, key object, value, which of the KEYS is its blob
local status = open()
if status then return once(status) end
for index = 6, #KEYS do
    if call('EXISTS', KEYS[index]) == 0 then return once(@UNKNOWN_BLOB) end
end
local stored, head = 0, struct.pack('<dd', now, version)
for first = 4, #ARGV, 2000 do
    local fields, records, new = {}, {}, {}
    for index = first, math.min(first + 1996, #ARGV - 3), 4 do fields[#fields + 1] = 'e' .. ARGV[index] end
    for at, old in ipairs(call('HMGET', hash, unpack(fields))) do
        local index, there = first + 4 * (at - 1), old and lives(old)
        local key_object, value, blob = ARGV[index + 1], ARGV[index + 2], ARGV[index + 3]
        if there and ARGV[3] ~= '' then
            use(fields[at], old)
            if blob ~= '' then call('UNLINK', KEYS[tonumber(blob)]) end
        else
            if blob ~= '' then own(blob_of(value), KEYS[tonumber(blob)]) end
            if old then
                local old_object, old_value = parts(old)
                if there then key_object = old_object end
                let_go(old_value)
            else
                new[#new + 1] = 0
                new[#new + 1] = ARGV[index]
            end
            records[#records + 1] = fields[at]
            records[#records + 1] = head .. struct.pack('<I4', #key_object) .. key_object .. value
            stored = stored + 1
        end
    end
    if #records > 0 then call('HSET', hash, 'v', version, unpack(records)) end
    if #new > 0 then call('ZADD', order, unpack(new)) end
end
keep()
return answer(once(@OK, 0, tostring(stored)))

--- get_many: read clock dict use answer
-- ARGV: keys. Answers of each its length, -1 where it is missing, and then its value, as far as they are not too many bytes
local status = open()
if status then return once(status) end
local values, size = {}, 0
for index, key in ipairs(ARGV) do
    local record = call('HGET', hash, 'e' .. key)
    if record and lives(record) then
        use('e' .. key, record)
        local _, value = parts(record)
        values[index] = struct.pack('<i4', #value) .. value
        size = size + #value
        if size > @PAGE_BYTES_MAX then break end
    else
        values[index] = struct.pack('<i4', -1)
    end
end
leaves = nil
return answer(once(@OK, 0, table.concat(values)))

--- pop_many: clock once dict let_go remove answer
-- ARGV: number, lowest, keys. Answers as `get_many`
local status = open()
if status then return once(status) end
local values, size = {}, 0
for index = 3, #ARGV do
    local field = 'e' .. ARGV[index]
    local record = call('HGET', hash, field)
    if record and lives(record) then
        local value = hand_over(remove(field, record))
        values[#values + 1] = struct.pack('<i4', #value) .. value
        size = size + #value
        if size > @PAGE_BYTES_MAX then break end
    else
        values[#values + 1] = struct.pack('<i4', -1)
    end
end
call('HSET', hash, 'v', version)
keep()
return answer(once(@OK, 0, table.concat(values)))
