#!lua flags=allow-oom
-- SPDX-License-Identifier: MIT
-- The run is over and its process reaped. Sent down the connection that carried the
-- output, behind it. KEYS m w s  ARGV run seq record linger kept
--   kept 1: where the stream holds the whole output  2: in any case, for who wants the end alone
-- -> OK|FENCED|LATE (a part of the output is not there: nobody may read it as whole)
local C=redis.call
local t=C('TIME') local now=t[1]*1000+math.floor(t[2]/1000)
local st,run=unpack(C('HMGET',KEYS[1],'st','run'))
if run~=ARGV[1] then return 'FENCED' end
if st=='done' then return 'OK' end
local last=C('XREVRANGE',KEYS[3],'+','-','COUNT',1)[1]
local x=redis.pcall('XADD',KEYS[3],'NOMKSTREAM',ARGV[2]..'-0','x',ARGV[3])
local there=x and not x.err
local whole=there and last and last[1]==(ARGV[2]-1)..'-0'   -- the last chunk may have been refused
local kept=(whole and ARGV[5]=='1') or (there and ARGV[5]=='2')
C('HSET',KEYS[1],'st','done','e',now,'kept',kept and 1 or 0)
C('DEL',KEYS[2])
C('PEXPIRE',KEYS[1],ARGV[4]) C('PEXPIRE',KEYS[3],ARGV[4])
C('PUBLISH',KEYS[1]..':j','x')
return whole and 'OK' or 'LATE'
