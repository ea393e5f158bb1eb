#!lua flags=allow-oom
-- SPDX-License-Identifier: MIT
-- Ends a run for everyone. KEYS m  ARGV run -> OK|GONE
local C=redis.call
local st,run=unpack(C('HMGET',KEYS[1],'st','run'))
if run~=ARGV[1] or (st~='run' and st~='cancel') then return 'GONE' end
C('HSET',KEYS[1],'st','cancel','all',1) C('PUBLISH',KEYS[1]..':r','c') return 'OK'
