-- What scripts have in common. A script is a section, `--- name: what of this it begins with`; @NAME is a number of the protocol.
-- A status is answered as one byte, then a version as a double, then the payload.

--- clock
local call = redis.call
local time = call('TIME')
local now, micros = time[1] * 1000 + math.floor(time[2] / 1000), time[1] * 1000000 + time[2]

--- once
-- A write, after `clock`: its outcome is kept under session and number, so that a retry gets the first one.
-- KEYS[5]: the session's outcomes; ARGV: the number, the lowest one that is still pending.
-- In the hash: o the outcome of the last write that was the only one pending, after its number; those of others by their
-- numbers; l the lowest number that was pending, m the highest one; p when the key was last told to expire.
local outcomes, number, lowest = KEYS[5], tonumber(ARGV[1]), tonumber(ARGV[2])
local before = call('HMGET', outcomes, ARGV[1], 'o', 'l', 'm', 'p')
local single = before[2] and struct.unpack('<d', before[2]) or 0
local lowest_before, most_before = math.max(single, tonumber(before[3] or 0)), math.max(single, tonumber(before[4] or 0))
if number < lowest_before then
    return string.char(@FORGOTTEN) .. struct.pack('<d', 0) .. 'the outcome of this request is no longer remembered'
end
if before[1] then
    call('HSET', outcomes, ARGV[1], before[1]) -- once more: what a WAIT behind this is to cover
    return before[1]
elseif number == single then
    call('HSET', outcomes, 'o', before[2])
    return before[2]:sub(9)
end
local function once(status, version, payload)
    local outcome = string.char(status) .. struct.pack('<d', version or 0) .. (payload or '')
    if lowest == number then
        call('HSET', outcomes, 'o', struct.pack('<d', number) .. outcome)
    else
        call('HSET', outcomes, ARGV[1], outcome, 'l', math.max(lowest, lowest_before), 'm', math.max(number, most_before))
    end
    if before[4] and micros % 16 == 0 and call('HLEN', outcomes) > 20 then
        for _, each in ipairs(call('HKEYS', outcomes)) do
            if (tonumber(each) or lowest) < lowest then call('HDEL', outcomes, each) end
        end
    end
    if now - tonumber(before[5] or 0) > @OUTCOME_MS / 7 then
        call('HSET', outcomes, 'p', now)
        call('PEXPIRE', outcomes, @OUTCOME_MS)
    end
    return outcome
end

--- read
local call = redis.call
local function once(status, version, payload)
    return string.char(status) .. struct.pack('<d', version or 0) .. (payload or '')
end

--- dict
-- One part of a Dict: KEYS: its hash, its keys in order, the blobs it owns, those it has let go.
-- In the hash: e<key> a record (last use, version, length of the key object; key object; value), t the ttl in ms (0: none,
-- x: deleted), d before when all that was used has expired, v the last version, p when the keys were last told to expire,
-- l the lease in ms, g whether blobs wait to be removed, w the version of the ttl.
local hash, order, owned, garbage = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local ttl, dead, version, told, lease, leaves
local after -- what the client is to do with blobs, whose keys are not declared here
local function open(field)
    local meta = call('HMGET', hash, 't', 'd', 'v', 'p', 'l', 'g', field or 't')
    if not meta[1] then return @UNKNOWN_DICT end
    if meta[1] == 'x' then return @DICT_NOT_FOUND end
    ttl, dead, version = tonumber(meta[1]), tonumber(meta[2] or 0), math.max(tonumber(meta[3] or 0) + 1, micros)
    told, lease, leaves = tonumber(meta[4] or 0), meta[5], meta[6]
    return nil, meta[7]
end
local function life()
    return ttl + math.floor(ttl / 100)
end
local function lives(record)
    local used = struct.unpack('<d', record)
    return used >= dead and (ttl == 0 or now - used < life())
end
local function parts(record)
    local used, of, length = struct.unpack('<ddI4', record)
    return record:sub(21, 20 + length), record:sub(21 + length), of
end
local function blob_of(value)
    return value:byte() == 2 and value:sub(2, 17)
end
local function expire(milliseconds)
    for index = 1, 4 do call('PEXPIRE', KEYS[index], milliseconds) end
end
local function keep() -- an idle part goes by itself, when all in it has expired
    if ttl > 0 and not lease and now - told > ttl / 100 then
        expire(life() + math.floor(ttl / 25) + 1000)
        call('HSET', hash, 'p', now)
        told = now
    end
end

--- use
local function blob_life()
    return string.format('%.0f', life() + math.floor(ttl / 10) + 60000)
end
local function use(field, record)
    if ttl > 0 and now - struct.unpack('<d', record) > math.floor(ttl / 100) then
        call('HSET', hash, field, struct.pack('<d', now) .. record:sub(9))
        keep()
        local _, value = parts(record)
        local blob = blob_of(value)
        if blob then
            after = after or {}
            after[#after + 1] = 't' .. blob .. blob_life()
        end
    end
end

--- let_go
local function let_go(value)
    local blob = blob_of(value)
    if blob and call('SREM', owned, blob) == 1 then
        call('SADD', garbage, blob)
        call('HSET', hash, 'g', 1)
        leaves = true
    end
end

--- let_all_go
local function let_all_go()
    call('UNLINK', hash, order)
    if call('EXISTS', owned) == 1 then
        call('SUNIONSTORE', garbage, garbage, owned)
        call('DEL', owned)
    end
    leaves = call('EXISTS', garbage) == 1
end

--- remove
local function remove(field, record)
    call('HDEL', hash, field)
    call('ZREM', order, field:sub(2))
    local _, value = parts(record)
    return value
end
local function hand_over(value) -- its client reads it, and says when it has
    local blob = blob_of(value)
    if blob then
        call('SREM', owned, blob)
        after = after or {}
        after[#after + 1] = 'p' .. blob .. '600000'
    end
    return value
end

--- store
local function store(field, old, key_object, value)
    if old then
        local old_object, old_value = parts(old)
        if lives(old) then key_object = old_object end -- as with dict, the key that was stored first stays
        let_go(old_value)
    else
        call('ZADD', order, 0, field:sub(2))
    end
    call('HSET', hash, field, struct.pack('<ddI4', now, version, #key_object) .. key_object .. value, 'v', version)
    keep()
end

--- own
local function own(blob, key) -- whether there is this blob
    if call('EXISTS', key) == 0 then return false end
    call('SADD', owned, blob)
    if ttl > 0 then
        call('PEXPIRE', key, blob_life())
        call('PEXPIRE', owned, lease or blob_life())
    else
        call('PERSIST', key)
    end
    return true
end

--- packed
local function packed(key, key_object, value) -- an entry, with or without its value
    return struct.pack('<i4i4i4', #key, #key_object, value and #value or -1) .. key .. key_object .. (value or '')
end

--- sweep
local function sweep(most) -- look at some entries, and go on while many of them have expired
    if ttl == 0 and dead == 0 then return end
    local looked = 0
    repeat
        local gone, keys = 0, call('ZRANDMEMBER', order, 20)
        looked = looked + #keys
        for _, key in ipairs(keys) do
            local record = key ~= '' and call('HGET', hash, 'e' .. key)
            if record and not lives(record) then
                let_go(remove('e' .. key, record))
                gone = gone + 1
            end
        end
    until looked >= most or gone * 4 < #keys
end

--- answer
local function answer(outcome)
    if leaves then
        local blobs = call('SRANDMEMBER', garbage, @COLLECTED_MAX)
        after = after or {}
        for _, blob in ipairs(blobs) do after[#after + 1] = 'g' .. blob .. '10000' end
        if #blobs == 0 then call('HDEL', hash, 'g') end
    end
    if not after or #after == 0 then return outcome end
    return {outcome, unpack(after)}
end
