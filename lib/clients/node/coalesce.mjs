// SPDX-License-Identifier: MIT
// Commands asked of `coalesce serve`, in the manner of child_process. Needs Node 18 and no package.
// The types are in coalesce.d.mts, what it promises in coalesce-protocol(7), under CLIENTS.

import { once } from 'node:events';
import { closeSync, constants as modes, existsSync, lstatSync, openSync, statSync } from 'node:fs';
import { createConnection } from 'node:net';
import { constants } from 'node:os';
import { basename, dirname, isAbsolute } from 'node:path';
import { Readable } from 'node:stream';
import { setImmediate as turn, setTimeout as pause } from 'node:timers/promises';

const requestBytesMax = 8 << 20; // of a line, without its newline
const unreadBytesMax = 256 << 10; // of each stream of a command that was spawned
const addressBytesMax = 107;
const closed = 'the client was closed';
const times = new Set(['timeout', 'grace', 'wait', 'ttl', 'maxAge', 'stale', 'keepFailures']); // in milliseconds
const signalNames = new Map(Object.entries(constants.signals).reverse().map(([name, number]) => [number, name])); // of several the first

export class CoalesceError extends Error {
  constructor(code, message, result) {
    super(message.trim().replace(/^coalesce: /, ''));
    Object.assign(this, { name: 'CoalesceError', code, result });
  }
}

// What is not known here goes as it is: the server refuses it by name.
function requestOf(command, { signal, shell = false, input, cwd = '', env = process.env, ...more }) {
  if (shell !== (typeof command === 'string')) throw new TypeError('a command is an array of arguments, or with shell one string');
  const given = { COALESCE_ANCESTRY: process.env.COALESCE_ANCESTRY, ...env }; // so that who would wait for itself is told
  const request = {
    ...(more.op ? {} : { output: 'stream', quiet: true }),
    [shell ? 'line' : 'argv']: command,
    cwd: isAbsolute(cwd) ? cwd : `${process.cwd()}/${cwd}`,
    env: Object.entries(given).flatMap(([name, value]) => (value === undefined ? [] : [`${name}=${value}`])),
  };
  if (input?.length) request.stdin_base64 = Buffer.from(input).toString('base64');
  for (const [name, value] of Object.entries(more)) {
    request[name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)] = times.has(name) && typeof value === 'number' ? value / 1000 : value;
  }
  return request;
}

function resultOf(final, stdout, stderr) {
  const { signal, exit, code, message, joined, requesters, duration, kept } = final;
  if (duration === undefined && code === undefined) return undefined; // forgotten
  if (duration === undefined) throw new CoalesceError(code, message);
  const result = {
    exitCode: exit ?? null,
    signal: signal === undefined ? null : (signalNames.get(signal) ?? `SIGRTMIN+${signal - 34}`),
    stdout: Buffer.concat(stdout),
    stderr: Buffer.concat(stderr),
    ...{ joined, requesters, duration: duration * 1000 },
    kept: kept && { ...kept, age: kept.age * 1000, left: kept.left * 1000 },
  };
  if (code !== undefined) throw new CoalesceError(code, message, result);
  return result;
}

// The first of the values, where all are of that type.
function needed(type, ...values) {
  if (values.some((value) => typeof value !== type)) throw new TypeError(`no ${type}`);
  return values[0];
}

// Where a server listens: the first that is there.
function placeOf(named = process.env.COALESCE_SOCKET) {
  const { COALESCE_PLACE, XDG_RUNTIME_DIR } = process.env;
  if (named || COALESCE_PLACE) return named || `${COALESCE_PLACE}/server.sock`;
  const uid = process.geteuid();
  const isOurs = XDG_RUNTIME_DIR?.startsWith('/') && existsSync(XDG_RUNTIME_DIR) && statSync(XDG_RUNTIME_DIR).uid === uid; // sudo leaves another's
  const own = `${isOurs ? XDG_RUNTIME_DIR : `/run/user/${uid}`}/coalesce/server.sock`;
  const shared = `/tmp/coalesce-${uid}`;
  const there = !existsSync(own) && existsSync(`${shared}/server.sock`) && lstatSync(shared);
  return there && there.uid === uid ? `${shared}/server.sock` : own; // anybody may have made it
}

// Nothing where the server's queue is full.
async function reach(path) {
  let [address, directory] = [path, -1];
  try {
    if (Buffer.byteLength(path) > addressBytesMax) { // but through its directory it fits
      directory = openSync(dirname(path), modes.O_RDONLY | modes.O_DIRECTORY);
      address = `/proc/self/fd/${directory}/${basename(path)}`;
    }
    const socket = createConnection(address);
    await once(socket, 'connect');
    return new Connection(socket);
  } catch ({ code, syscall }) {
    if (code !== 'EAGAIN') throw Object.assign(new Error(`${syscall} ${code} ${path}`), { code, syscall, path });
  } finally {
    if (directory >= 0) closeSync(directory);
  }
}

/** Requests by their numbers, and who waits for each: { output(name, bytes), end(final) }. */
class Connection {
  waiting = new Map();
  closing = false; // takes no more requests
  #lost; // why there will be no answers
  #number = 0;
  #text = []; // up to no newline
  #raw = 0; // bytes that are still to come after a message,
  #stream; // of which stream,
  #owner; // and of which request
  #gone = (why) => this.fail('disconnected', `the server went away without an answer: ${why}`);

  constructor(socket) {
    this.socket = socket;
    socket.on('data', (bytes) => this.#read(bytes));
    socket.on('error', (error) => this.#gone(error.message));
    for (const event of ['end', 'close']) socket.on(event, () => this.#gone('end of file'));
    socket.unref();
  }

  send(request, waiter) {
    if (this.#lost) throw new CoalesceError(this.#lost.code, this.#lost.message);
    const number = ++this.#number;
    // The number comes first: the server has read it then, should the rest be no JSON.
    const line = Buffer.from(`{"id":${number},${JSON.stringify({ ...request, id: undefined }).slice(1)}\n`);
    if (line.length > requestBytesMax + 1) {
      throw new CoalesceError('too_long', `the request has ${line.length - 1} bytes, and at most ${requestBytesMax} are taken`);
    }
    this.waiting.set(number, waiter);
    this.socket.ref();
    this.socket.write(line);
    return number;
  }

  /** With no last word it leaves, if it still waits. */
  finish(number, final) {
    const waiter = this.waiting.get(number);
    if (!this.waiting.delete(number)) return;
    if (final) waiter.end(final);
    else this.#leave(number);
    if (this.waiting.size === 0) this.socket.unref();
  }

  /** All who wait are told. */
  fail(code, message) {
    this.closing = true;
    this.#lost ??= { code, message };
    for (const number of this.waiting.keys()) this.#leave(number); // who only goes away leaves a run that is to be kept to its end
    this.socket.destroy();
    for (const number of [...this.waiting.keys()]) this.finish(number, this.#lost);
  }

  #leave(number) {
    if (this.socket.writable) this.socket.write(`{"id":${number},"op":"leave"}\n`);
  }

  #read(bytes) {
    for (let at = 0; at < bytes.length;) {
      if (this.#raw > 0) {
        const piece = bytes.subarray(at, at + this.#raw);
        at += piece.length;
        this.#raw -= piece.length;
        this.waiting.get(this.#owner)?.output(this.#stream, piece);
        continue;
      }
      const end = bytes.indexOf('\n', at);
      this.#text.push(bytes.subarray(at, end < 0 ? bytes.length : end));
      if (end < 0) return;
      at = end + 1;
      try {
        this.#take(JSON.parse(Buffer.concat(this.#text.splice(0)).toString()));
      } catch {
        this.#gone('it does not speak coalesce-protocol(7)');
      }
    }
  }

  // Throws where that is no message of the protocol, or lacks what it must have.
  #take(message) {
    const { id = 0, event, error, bytes, ...end } = Array.isArray(message) ? null : needed('object', message);
    if (error) needed('string', error.code, error.message);
    if (event === 'stdout' || event === 'stderr') {
      [this.#raw, this.#stream, this.#owner] = [needed('number', bytes), event, id];
    } else if (error && id === 0) { // it is about the connection
      this.fail(error.code, error.message);
    } else if (error || event === 'exit' || event === 'forgotten') {
      if (event === 'exit') needed('number', end.exit ?? end.signal, end.duration);
      this.closing ||= error?.code === 'shutting_down';
      this.finish(id, error ?? end);
    }
  }
}

export class Client {
  #path;
  #connections = new Set();
  #connection; // for all that is not spawned
  #connecting;
  #closings = 0; // who asked before the last is not to be connected any more

  constructor({ path } = {}) { this.#path = path; }

  async run(command, options = {}) {
    const { signal } = options;
    const request = requestOf(command, options);
    const connection = await this.#untilThere((closings) => this.#connected(closings), () => !signal?.aborted);
    signal?.throwIfAborted();
    const taken = { stdout: [], stderr: [] };
    let number, leave;
    try {
      const final = await new Promise((resolve, reject) => {
        number = connection.send(request, { output: (name, bytes) => taken[name].push(bytes), end: resolve });
        leave = () => reject(signal.reason);
        signal?.addEventListener('abort', leave);
      });
      return resultOf(final, taken.stdout, taken.stderr);
    } finally {
      signal?.removeEventListener('abort', leave);
      connection.finish(number);
    }
  }

  async forget(command, options = {}) { await this.run(command, { ...options, op: 'forget' }); }

  spawn(command, options = {}) {
    const { signal } = options;
    const request = requestOf(command, options);
    const blocked = new Set(); // streams that take no more now
    let connection, resolve, reject, over;
    const exit = new Promise((...settle) => ([resolve, reject] = settle));
    const readOn = (name) => blocked.delete(name) && blocked.size === 0 && connection.socket.resume();
    const stream = (name, destroyed) => new Readable({
      highWaterMark: unreadBytesMax,
      read: () => readOn(name),
      destroy: (error, done) => (destroyed(error), done(error)),
    });
    const end = ({ error, result }) => {
      if (over) return;
      over = true;
      signal?.removeEventListener('abort', abort);
      connection?.fail('disconnected', 'nobody waits any more');
      for (const one of Object.values(streams)) {
        const heard = one.listenerCount('error') > 0;
        if (result || error?.result) one.destroyed || one.push(null);
        else one.on('error', () => {}).destroy(error);
        if (heard) exit.catch(() => {}); // else nothing but exit tells of it
      }
      result ? resolve(result) : reject(error); // which may be anything: abort() takes what it is given
    };
    const abort = () => end({ error: signal.reason });
    const streams = {
      stdout: stream('stdout', (error) => end({ error: error ?? new Error('stdout was destroyed') })),
      stderr: stream('stderr', () => readOn('stderr')),
    };
    const waiter = {
      output(name, bytes) {
        if (streams[name].destroyed || streams[name].push(bytes)) return;
        blocked.add(name);
        connection.socket.pause();
      },
      end(final) {
        new Promise((ended) => ended(resultOf(final, [], []))).then((result) => end({ result }), (error) => end({ error }));
      },
    };
    const ask = (reached) => (over ? reached?.fail('disconnected', '') : (connection = reached).send(request, waiter));
    if (signal?.aborted) queueMicrotask(abort);
    else signal?.addEventListener('abort', abort);
    this.#untilThere((closings) => this.#reach(closings), () => !over).then(ask).catch((error) => end({ error }));
    return { ...streams, exit };
  }

  close() {
    [this.#closings, this.#connecting] = [this.#closings + 1, undefined];
    for (const connection of this.#connections) connection.fail('disconnected', closed);
  }

  // Each who waits looks for itself, so that who has left, or was left by close(), looks no longer.
  async #untilThere(look, wanted) {
    for (const closings = this.#closings; wanted(); await pause(10)) { // nothing tells when there is room
      if (closings !== this.#closings) throw new CoalesceError('disconnected', closed);
      const connection = await look(closings);
      if (connection) return connection;
    }
  }

  async #connected(closings) {
    // That the server closed an idle one may not have been read yet: two turns of the loop, and it has.
    if (this.#connection?.waiting.size === 0) await turn().then(() => turn());
    if (this.#connection && !this.#connection.closing) return this.#connection;
    this.#connecting ??= this.#reach(closings).finally(() => (this.#connecting = undefined));
    return (this.#connection = await this.#connecting);
  }

  async #reach(closings) {
    const connection = await reach(placeOf(this.#path));
    if (connection) this.#connections.add(connection);
    connection?.socket.on('close', () => this.#connections.delete(connection));
    if (closings !== this.#closings) connection?.fail('disconnected', closed);
    return connection;
  }
}

let shared;
export const run = (command, options) => (shared ??= new Client()).run(command, options);
