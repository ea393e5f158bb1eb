#!lua flags=allow-oom
-- SPDX-License-Identifier: MIT
-- A joiner stops waiting. KEYS m w  ARGV run client -> GONE|LEFT|LAST
-- One whose presence had expired decides nothing: the runner's next heartbeat does.
local C=redis.call
local t=C('TIME') local now=t[1]*1000+math.floor(t[2]/1000)
local st,run=unpack(C('HMGET',KEYS[1],'st','run'))
if run~=ARGV[1] or st~='run' or C('ZREM',KEYS[2],ARGV[2])==0 then return 'GONE' end
C('ZREMRANGEBYSCORE',KEYS[2],'-inf',now)
if C('ZCARD',KEYS[2])>0 then return 'LEFT' end
C('HSET',KEYS[1],'st','cancel') C('PUBLISH',KEYS[1]..':r','c') return 'LAST'
