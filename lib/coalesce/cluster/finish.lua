#!lua flags=allow-oom
-- SPDX-License-Identifier: MIT
-- The run is over and its process reaped. Sent down the connection that carried the
-- output, behind it. KEYS m w s  ARGV run seq record linger kept
--   kept 1: the stream holds the whole output
-- -> OK|FENCED|LATE (a part of the output is not there: nobody may read it as whole)
local C=redis.call
local t=C('TIME') local now=t[1]*1000+math.floor(t[2]/1000)
local st,run=unpack(C('HMGET',KEYS[1],'st','run'))
if run~=ARGV[1] then return 'FENCED' end
if st=='done' then return 'OK' end
local x=redis.pcall('XADD',KEYS[3],'NOMKSTREAM',ARGV[2]..'-0','x',ARGV[3])
local whole=x and not x.err
C('HSET',KEYS[1],'st','done','e',now,'kept',whole and ARGV[5] or 0)
C('DEL',KEYS[2])
C('PEXPIRE',KEYS[1],ARGV[4]) C('PEXPIRE',KEYS[3],ARGV[4])
C('PUBLISH',KEYS[1]..':j','x')
return whole and 'OK' or 'LATE'
