// SPDX-License-Identifier: MIT
// Commands asked of `coalesce serve`, in the manner of child_process.
//
//     import { Client } from 'coalesce';
//     const client = new Client();
//     const { stdout, joined } = await client.run(['git', 'log'], { cwd: '/srv/repository', signal });
//     client.spawn(['git', 'archive', 'HEAD']).stdout.pipe(response);
//
// Times are in milliseconds. What it promises is in coalesce-protocol(7), under CLIENTS.

import type { Buffer } from 'node:buffer';
import type { Readable } from 'node:stream';

/** An array is a program and its arguments; a string, with `shell`, a line for the server's shell. */
export type Command = readonly string[] | string;

/** What a request may say beside its command; for more see coalesce-protocol(7). Times are in milliseconds. */
export interface Options {
  /** Leaves when it is aborted. */
  signal?: AbortSignal;
  shell?: boolean;
  /** What the command reads; else /dev/null. */
  input?: string | Uint8Array;
  /** Else that of this process. */
  cwd?: string;
  /** The whole environment; else that of this process. */
  env?: Record<string, string | undefined>;
  /** Else the server's. */
  umask?: number;
  /** Ends the run: the error "timed_out". */
  timeout?: number;
  grace?: number;
  /** Ends the waiting: the error "gave_up". */
  wait?: number;
  /** In which the run waits for its turn: "heavy", or "heavy:2". */
  class?: string;
  /** The command's outputs are one terminal; all comes as stdout. */
  pty?: boolean;
  /** Of a pty: "120x24"; else "80x24". */
  ptySize?: string;
  /** Only a run that starts after this request will do. */
  fresh?: boolean;
  /** The run goes on though all who asked have left. */
  keepRunning?: boolean;
  noShare?: boolean;
  /** Only this text decides what is the same. */
  key?: string;
  scope?: string;
  /** What files the command sees on other machines; shared with those that say the same. */
  clusterScope?: string;
  ignorePlatform?: boolean;
  ignoreEnv?: readonly string[];
  onlyEnv?: readonly string[];
  ignoreCwd?: boolean;
  ignoreNamespaces?: boolean;
  /** A kept result that is no older will do; else that of the run is kept for as long. See coalesce(1). */
  ttl?: number;
  /** Only a run that started no longer ago will do, kept or under way. */
  maxAge?: number;
  /** A kept result that is older is the answer still, and is refreshed behind it. */
  stale?: number;
  /** A command that failed is kept, too, and an answer, for as long. */
  keepFailures?: number;
  /** Comes at once, with nothing: it has the result made. */
  warm?: boolean;
}

/** Of a result that had been kept. Times are in milliseconds. */
export interface Kept {
  /** Since its run ended. */
  age: number;
  /** Until it may be removed. */
  left: number;
  /** It is stale, and a run is on its way to replace it. */
  refreshing: boolean;
}

/** How a command ended. */
export interface Result {
  exitCode: number | null;
  /** The name of the signal that killed it. */
  signal: string | null;
  /** Empty of a command that was spawned, as stderr is. */
  stdout: Buffer;
  stderr: Buffer;
  /** Whether the run was under way already. */
  joined: boolean;
  /** How many requests it has answered. */
  requesters: number;
  /** In milliseconds. */
  duration: number;
  /** Where nothing was run, since this result had been kept. */
  kept?: Kept;
}

/** Why a command has no result, or none of its own. */
export class CoalesceError extends Error {
  constructor(code: string, message: string, result?: Result);
  /** A word of coalesce-protocol(7), or "disconnected". */
  readonly code: string;
  /** What there is, where the run was ended or could not be started. */
  readonly result?: Result;
}

/** A command whose output comes as it is written. Both streams are to be read, as child_process's are. */
export interface Spawned {
  /** To destroy it is to leave. */
  readonly stdout: Readable;
  readonly stderr: Readable;
  readonly exit: Promise<Result>;
}

/** Asks the server at `path`, or where `coalesce run` would find one. */
export class Client {
  constructor(options?: { path?: string });
  /** Runs a command, or joins its run. */
  run(command: Command, options?: Options): Promise<Result>;
  /** Removes what is kept under its key, of which are the options; what is under way is not kept either. */
  forget(command: Command, options?: Options): Promise<void>;
  /** A run with its output as it comes, and a promise of the result without it. */
  spawn(command: Command, options?: Options): Spawned;
  /** Leaves all that is waited for. */
  close(): void;
}

/** Client.run() of a client that all of the process share. */
export function run(command: Command, options?: Options): Promise<Result>;
