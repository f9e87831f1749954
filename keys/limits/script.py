"""The counting in Redis' own language: one script for each step, so that each is atomic. Pure: text in, values out.

A window is a hash: `first`, `last` and `total`, for each grain its amount, and under `n` and the grain the next grain,
so that what has left is found without a search. Parallel calls are a sorted set of the calls' ids by the end of their
leases. All of it expires by itself. The clock is Redis', the same for every process; one that is set back counts as
standing still.
"""

from collections.abc import Sequence
from typing import NamedTuple

from keys.rates import GRAIN, GRAINS, SECOND, SLOT_WAIT, Limit, Reading

# Sets `now`. Tests have a clock of their own here.
CLOCK = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
"""

_WINDOWS = f"""
local GRAIN, GRAINS, KEPT = {GRAIN}, {GRAINS}, {(GRAINS + 2) * GRAIN // 1000}
local grain = math.floor(now / GRAIN)

local function leaves(g)
  return (g + GRAINS + 1) * GRAIN
end

-- What is in the window, and how much of it was taken in the grain `at`.
local function advanced(key, at)
  local head = redis.call('HMGET', key, 'first', 'last', 'total', at)
  local window = {{key = key, first = tonumber(head[1] or nil), last = tonumber(head[2] or nil)}}
  window.total, window.taken = tonumber(head[3] or 0), tonumber(head[4] or nil)
  local before = window.first
  while window.first and window.first < grain - GRAINS do
    local found = redis.call('HMGET', key, window.first, 'n' .. window.first)
    window.total = window.total - found[1]
    redis.call('HDEL', key, window.first, 'n' .. window.first)
    window.first = tonumber(found[2] or nil)
  end
  if before and not window.first then
    redis.call('DEL', key)
    window.last, window.total = nil, 0
  elseif before ~= window.first then
    redis.call('HSET', key, 'first', window.first, 'total', window.total)
  end
  if window.first and window.first > at then window.taken = nil end
  return window
end

local function add(window, amount)
  local key, last = window.key, window.last
  window.total = window.total + amount
  if last and last > grain then -- the clock was set back
    redis.call('HINCRBY', key, last, amount)
    redis.call('HSET', key, 'total', window.total)
  elseif last == grain then
    redis.call('HSET', key, grain, (window.taken or 0) + amount, 'total', window.total)
  else
    window.last = grain
    if last then
      redis.call('HSET', key, grain, amount, 'n' .. last, grain, 'last', grain, 'total', window.total)
    else
      redis.call('HSET', key, grain, amount, 'first', grain, 'last', grain, 'total', window.total)
    end
    redis.call('PEXPIRE', key, KEPT)
  end
end

local function take_back(window, at, amount)
  if window.taken then
    redis.call('HSET', window.key, at, window.taken - amount, 'total', window.total - amount)
  end
end

local function wait(window, excess)
  local at = window.first
  while excess > 0 do
    local found = redis.call('HMGET', window.key, at, 'n' .. at)
    excess = excess - found[1]
    if excess <= 0 then return leaves(at) - now end
    at = tonumber(found[2])
  end
  return 0
end
"""

# ARGV: the call's id, its lease in microseconds, then for each limit the most and the amount, which is 0 for a place.
# Answer: 1 or 0, the grain, then for each limit what is used, the wait and the reset in microseconds.
_ADMIT = f"""
local id, lease = ARGV[1], tonumber(ARGV[2])
local admitted, found = 1, {{}}
for i, key in ipairs(KEYS) do
  local most, amount = tonumber(ARGV[2 * i + 1]), tonumber(ARGV[2 * i + 2])
  local limit = {{amount = amount, wait = 0}}
  if amount == 0 then
    limit.used = redis.call('ZCARD', key)
    if limit.used >= most then
      limit.used = limit.used - redis.call('ZREMRANGEBYSCORE', key, '-inf', now)
      if limit.used >= most then limit.wait = {int(SLOT_WAIT * SECOND)} end
    end
  else
    limit.window = advanced(key, grain)
    local excess = limit.window.total + amount - most
    if excess > 0 then limit.wait = wait(limit.window, excess) end
  end
  if limit.wait > 0 then admitted = 0 end
  found[i] = limit
end
local answer = {{string.format('%d %.0f', admitted, grain)}}
for i, key in ipairs(KEYS) do
  local limit = found[i]
  local window, used, reset = limit.window, limit.used, 0
  if not window then
    if admitted == 1 then
      redis.call('ZADD', key, now + lease, id)
      redis.call('PEXPIRE', key, math.ceil(lease / 1000))
      used = used + 1
    end
  else
    if admitted == 1 then add(window, limit.amount) end
    used = window.total
    if window.last then reset = leaves(window.last) - now end
  end
  answer[i + 1] = string.format('%.0f %.0f %.0f', used, limit.wait, reset)
end
return table.concat(answer, ' ')
"""

# ARGV: the call's id, the grain of its admission, then for each limit the difference, or `p` for a place.
_SETTLE = """
local id, at = ARGV[1], tonumber(ARGV[2])
for i, key in ipairs(KEYS) do
  local what = ARGV[2 + i]
  if what == 'p' then
    redis.call('ZREM', key, id)
  elseif tonumber(what) > 0 then
    add(advanced(key, grain), tonumber(what))
  else
    take_back(advanced(key, at), at, -tonumber(what))
  end
end
return 1
"""

# ARGV: the lease in microseconds, then for each limit the call's id. What Redis has forgotten is put back.
_RENEW = """
local lease = tonumber(ARGV[1])
for i, key in ipairs(KEYS) do
  redis.call('ZADD', key, now + lease, ARGV[1 + i])
  redis.call('PEXPIRE', key, math.ceil(lease / 1000))
end
return 1
"""

# ARGV: for each limit the id of a call that has ended.
_RELEASE = """
for i, key in ipairs(KEYS) do
  redis.call('ZREM', key, ARGV[i])
end
return 1
"""


class Scripts(NamedTuple):
    admit: bytes
    settle: bytes
    renew: bytes
    release: bytes


def scripts(clock: str = CLOCK) -> Scripts:
    """The scripts by one clock."""
    return Scripts(
        (clock + _WINDOWS + _ADMIT).encode(),
        (clock + _WINDOWS + _SETTLE).encode(),
        (clock + _RENEW).encode(),
        _RELEASE.encode(),
    )


def read_admission(answer: bytes, limits: Sequence[Limit]) -> tuple[bool, int, tuple[Reading, ...]]:
    """Whether the call is admitted, the grain in which it is counted, and how each limit stands."""
    admitted, grain, *numbers = map(int, answer.split())
    three = iter(numbers)
    readings = tuple(
        Reading(limit, used, wait / SECOND, reset / SECOND)
        for limit, used, wait, reset in zip(limits, three, three, three, strict=True)
    )
    return bool(admitted), grain, readings
