#!lua flags=allow-oom
-- SPDX-License-Identifier: MIT
-- The runner's heartbeat. KEYS m w s  ARGV run client lease presence shut
--   presence 0: no requester is left on this machine; shut 1: nobody may join any more
-- -> run|cancel|FENCED  how many machines wait (this one too)  1: cancelled for everyone
local C=redis.call
local t=C('TIME') local now=t[1]*1000+math.floor(t[2]/1000)
local st,run,all=unpack(C('HMGET',KEYS[1],'st','run','all'))
if run~=ARGV[1] or st=='done' then return {'FENCED',0,0} end
local lease,pres=tonumber(ARGV[3]),tonumber(ARGV[4])
C('HSET',KEYS[1],'dl',now+lease)
if ARGV[5]=='1' then C('HSET',KEYS[1],'shut',1) end
if pres>0 then C('ZADD',KEYS[2],now+pres,ARGV[2]) else C('ZREM',KEYS[2],ARGV[2]) end
C('ZREMRANGEBYSCORE',KEYS[2],'-inf',now)
for i=1,3 do C('PEXPIRE',KEYS[i],4*lease+math.max(pres,lease)) end
local n=C('ZCARD',KEYS[2])
if n==0 and st=='run' then st='cancel' C('HSET',KEYS[1],'st',st) end
if pres>0 and st=='cancel' and not all then st='run' C('HSET',KEYS[1],'st',st) end  -- somebody came to the runner first
return {st,n,all and 1 or 0}
