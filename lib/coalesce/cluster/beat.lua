#!lua flags=allow-oom
-- SPDX-License-Identifier: MIT
-- A joiner's heartbeat. KEYS m w s  ARGV run client presence
-- -> run|cancel left waiters | DONE (read on: its end is in the stream) | LOST
local C=redis.call
local t=C('TIME') local now=t[1]*1000+math.floor(t[2]/1000)
local st,run,dl=unpack(C('HMGET',KEYS[1],'st','run','dl'))
local pres=tonumber(ARGV[3])
local function keep(key,ms) if C('PTTL',key)<ms then C('PEXPIRE',key,ms) end end
if run~=ARGV[1] or st=='done' then
  local e=C('XREVRANGE',KEYS[3],'+','-','COUNT',1)[1]
  if e and e[2][1]=='x' then keep(KEYS[3],pres) return {'DONE',0,0} end
  return {'LOST',0,0} end
if now>=tonumber(dl) then return {'LOST',0,0} end
if st=='run' then C('ZADD',KEYS[2],now+pres,ARGV[2]) keep(KEYS[2],C('PTTL',KEYS[1])) end
return {st,dl-now,C('ZCARD',KEYS[2])}
