#!lua flags=allow-oom
-- SPDX-License-Identifier: MIT
-- Asks for a key: to run it, to share a run, or to wait.
-- KEYS  m w s   (s: the stream of the run that this request would start)
-- ARGV  client attempt lease presence age fresh info      times in ms; fresh 0|1
--       the run it would start is named client.attempt; a client counts its attempts,
--       so that one whose answer was lost, or that comes late, changes nothing.
--       age: since the request was made. A run that ended later than that may be shared.
-- ->    RUN  run fence lease lost   start it; lost: info of a run whose lease has passed, or ''
--       JOIN run fence left  info   read its stream from the beginning
--       DONE run fence ago   info   the same; it has ended since the request was made
--       WAIT run fence left  info   it cannot be shared; ask again when it has ended
--       STALE                       a later attempt of this client has been here
local C=redis.call
local t=C('TIME') local now=t[1]*1000+math.floor(t[2]/1000)
local st,run,dl,f,b,e,kept,shut,info=unpack(C('HMGET',KEYS[1],'st','run','dl','f','b','e','kept','shut','info'))
local client,attempt=ARGV[1],tonumber(ARGV[2])
local lease,pres,asked=tonumber(ARGV[3]),tonumber(ARGV[4]),now-tonumber(ARGV[5])
local fresh=ARGV[6]=='1'
local function keep(key,ms) if C('PTTL',key)<ms then C('PEXPIRE',key,ms) end end
local own=run and string.sub(run,1,#client+1)==client..'.'
if own and attempt<=tonumber(string.sub(run,#client+2)) then return {'STALE'} end
local live=(st=='run' or st=='cancel') and now<tonumber(dl)
if live and not own then
  if st=='cancel' or shut or (fresh and tonumber(b)<=asked) then return {'WAIT',run,f,dl-now,info} end
  C('ZADD',KEYS[2],now+pres,client) keep(KEYS[2],C('PTTL',KEYS[1]))
  C('PUBLISH',KEYS[1]..':r','j')
  return {'JOIN',run,f,dl-now,info} end
if st=='done' and kept=='1' and tonumber(e)>asked and not (fresh and tonumber(b)<=asked) then
  local s=string.sub(KEYS[3],1,-#client-#ARGV[2]-2)..run
  if C('EXISTS',s)==1 then keep(s,pres) return {'DONE',run,f,now-e,info} end end
local left=st=='run' or st=='cancel'                  -- its own, or one whose lease has passed
local lost=left and not own and info or ''
local n=t[1]*1000000+t[2]
if f and tonumber(f)>=n then n=f+1 end
n=string.format('%.0f',n)
C('DEL',KEYS[1],KEYS[2],KEYS[3])
C('HSET',KEYS[1],'st','run','run',client..'.'..attempt,'dl',now+lease,'f',n,'b',now,'info',ARGV[7])
C('ZADD',KEYS[2],now+pres,client)
C('XADD',KEYS[3],'1-0','b',n)
for i=1,3 do C('PEXPIRE',KEYS[i],4*lease+pres) end
if left then C('PUBLISH',KEYS[1]..':r','n') C('PUBLISH',KEYS[1]..':j','n') end
return {'RUN',client..'.'..attempt,n,lease,lost}
