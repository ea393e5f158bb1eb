// SPDX-License-Identifier: MIT
// visits.mjs execFile|coalesce REPOSITORY VISITS SOCKET: a small web server whose one page is
// `git log --stat`, and 200 visitors who ask for it until they have done so VISITS times together.
// Prints the seconds. Server and visitors share a process, as their cost is the same for both.
import { execFile } from 'node:child_process';
import { Agent, createServer, get } from 'node:http';
import { promisify } from 'node:util';
import { Client } from '../../lib/clients/node/coalesce.mjs';

const [how, cwd, visits, socket] = process.argv.slice(2);
const client = new Client({ path: socket });
const options = { cwd, encoding: 'buffer', maxBuffer: Infinity };
const log = how === 'execFile' ? () => promisify(execFile)('git', ['log', '--stat'], options) : () => client.run(['git', 'log', '--stat'], { cwd });

const server = createServer(async (request, response) => response.end((await log()).stdout));
const path = `${socket}.${process.pid}`;
await new Promise((listening) => server.listen(path, listening));

const agent = new Agent({ keepAlive: true, maxSockets: Infinity });
const visit = () => new Promise((done, failed) => {
  get({ socketPath: path, agent }, (response) => {
    let bytes = 0;
    response.on('data', (data) => (bytes += data.length)).on('end', () => (bytes > 0 ? done() : failed(new Error('an empty page'))));
  }).on('error', failed);
});
let left = Number(visits);
const begin = performance.now();
await Promise.all(Array.from({ length: 200 }, async () => {
  while (left-- > 0) await visit();
}));
console.log((performance.now() - begin) / 1000);
agent.destroy();
server.close();
