#!lua flags=allow-oom
-- SPDX-License-Identifier: MIT
-- The runner was on this machine and is dead, its process group too: its lease is over.
-- KEYS m  ARGV run -> OK|GONE
local C=redis.call
local st,run=unpack(C('HMGET',KEYS[1],'st','run'))
if run~=ARGV[1] or (st~='run' and st~='cancel') then return 'GONE' end
C('HSET',KEYS[1],'dl',0) C('PUBLISH',KEYS[1]..':j','n') return 'OK'
