// SPDX-License-Identifier: MIT
// Does with the client for Node what clients_test.py says, line by line.
//
// usage: driver.mjs [SOCKET]
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { constants } from 'node:os';
import { createInterface } from 'node:readline';
import { Client, CoalesceError } from '../../lib/clients/node/coalesce.mjs';

const tell = (name, what) => process.stdout.write(`${JSON.stringify({ name, ...what })}\n`);
const sha256 = (bytes) => createHash('sha256').update(bytes).digest('hex');

function toldOf({ exitCode, signal, joined, requesters, kept }) {
  const number = signal && constants.signals[signal];
  const inSeconds = kept && { ...kept, age: kept.age / 1000, left: kept.left / 1000 };
  return { returncode: signal ? -number : exitCode, signal: number, signal_name: signal, joined, requesters, kept: inSeconds ?? null };
}

function tellResult(name, result) {
  const { stdout, stderr } = result;
  if (stdout.length > 1 << 20) tell(name, { bytes: stdout.length, sha256: sha256(stdout), ...toldOf(result) });
  else tell(name, { stdout: stdout.toString('base64'), stderr: stderr.toString('base64'), ...toldOf(result) });
}

function tellError(name, error) {
  if (error.name === 'AbortError') tell(name, { cancelled: true });
  else if (!(error instanceof CoalesceError)) tell(name, { error: error.name, message: error.message });
  else tell(name, { error: error.code, message: error.message, result: error.result ? { ...toldOf(error.result), stdout: error.result.stdout.toString('base64') } : null });
}

// The tests say options as Python does.
function optionsOf({ options: { input, ...options } = {}, hold }) {
  if (hold) readFileSync(hold); // until somebody opens the other end nothing else is done
  const times = ['timeout', 'wait', 'ttl', 'max_age', 'stale', 'keep_failures'];
  const asHere = Object.entries(options).map(([name, value]) => [name.replace(/_(.)/g, (_, letter) => letter.toUpperCase()), times.includes(name) ? value * 1000 : value]);
  return { ...Object.fromEntries(asHere), ...(input === undefined ? {} : { input: Buffer.from(input, 'base64') }) };
}

class Taken {
  constructor(spawned) {
    this.hash = createHash('sha256');
    this.bytes = 0;
    this.streams = new Set();
    this.spawned = spawned;
    spawned.stdout.pause();
    spawned.stderr.on('error', () => {}).on('data', (bytes) => this.add('stderr', bytes));
  }

  add(name, bytes) {
    this.streams.add(name);
    this.hash.update(bytes);
    this.bytes += bytes.length;
  }

  async take(name, wanted) {
    const { stdout, exit } = this.spawned;
    try {
      for await (const bytes of stdout.iterator({ destroyOnReturn: false })) {
        this.add('stdout', bytes);
        if (wanted !== null && this.bytes >= wanted) return this.tell(name, {});
      }
      this.tell(name, toldOf(await exit));
    } catch (error) {
      tellError(name, error);
    }
  }

  tell(name, more) {
    tell(name, { taken: this.bytes, sha256: this.hash.copy().digest('hex'), streams: [...this.streams].sort(), ...more });
  }
}

const client = new Client({ path: process.argv[2] });
const controllers = new Map();
const taken = new Map();
for await (const line of createInterface({ input: process.stdin })) {
  const order = JSON.parse(line);
  const { name } = order;
  if (order.do === 'run') {
    for (let i = 0; i < (order.times ?? 1); ++i) {
      const controller = new AbortController();
      controllers.set(name, controller);
      client.run(order.command, { ...optionsOf(order), signal: controller.signal }).then((result) => tellResult(name, result), (error) => tellError(name, error));
    }
  } else if (order.do === 'forget') {
    client.forget(order.command, optionsOf(order)).then(() => tell(name, { forgotten: true }), (error) => tellError(name, error));
  } else if (order.do === 'cancel') {
    controllers.get(name).abort();
  } else if (order.do === 'stream') {
    const controller = new AbortController();
    controllers.set(name, controller);
    taken.set(name, new Taken(client.spawn(order.command, { ...optionsOf(order), signal: controller.signal })));
  } else if (order.do === 'abort') {
    const { exit, stdout } = taken.get(name).spawned;
    stdout.on('error', () => {});
    exit.then(() => tell(name, { fulfilled: true }), (reason) => tell(name, { rejected: true, reason }));
    controllers.get(name).abort(order.reason);
  } else if (order.do === 'take') {
    taken.get(name).take(name, order.bytes);
  } else if (order.do === 'drop') {
    const { stdout, exit } = taken.get(name).spawned;
    exit.catch(() => tell(name, { dropped: true }));
    stdout.destroy();
  } else if (order.do === 'close') {
    client.close();
  }
}
