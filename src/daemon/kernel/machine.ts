// What building, loading and checking the module need of a machine. The real one is below; tests bring their own.

import { spawn } from "node:child_process";
import { existsSync, readFileSync, statSync } from "node:fs";
import { release } from "node:os";
import { gunzipSync } from "node:zlib";
import { deleteModule, finitModule, readKernelLog } from "../libc.ts";

export interface CommandResult {
  readonly code: number;
  /** Standard output and error as they came, the last MiB. */
  readonly output: string;
}

export interface Machine {
  /** `uname -r`. */
  readonly release: string;
  /** `x64` or `arm64`. */
  readonly architecture: string;
  readonly uid: number;
  /** The text of a small file (of /proc, /sys, /etc, /boot), or undefined when it cannot be read. A .gz is unpacked. */
  read(path: string): string | undefined;
  exists(path: string): boolean;
  /** Owner and permission bits, following links. */
  owner(path: string): { readonly uid: number; readonly mode: number } | undefined;
  /** The path of a program, or undefined. */
  which(program: string): string | undefined;
  run(command: readonly string[], options?: { readonly timeoutMs?: number }): Promise<CommandResult>;
  /** finit_module(2). RiprapError with the errno as code. */
  finitModule(path: string, parameters: string): void;
  /** delete_module(2). RiprapError with the errno as code. */
  deleteModule(name: string): void;
  /** The kernel log's text, or "" without the right to read it. */
  kernelLog(): string;
}

const OUTPUT_CHARS_MAX = 1_048_576;
const RUN_MS = 60_000;

export function thisMachine(): Machine {
  return {
    release: release(),
    architecture: process.arch,
    uid: process.getuid?.() ?? 0,
    read: readOrUndefined,
    exists: existsSync,
    owner: ownerOf,
    which: (program) => Bun.which(program, { PATH: searchPath() }) ?? undefined,
    run: runCommand,
    finitModule,
    deleteModule,
    kernelLog: () => {
      try {
        return readKernelLog();
      } catch {
        // The log only adds detail to a sentence that is whole without it.
        return "";
      }
    },
  };
}

/** The caller's PATH and the system folders, which a plain user's PATH may lack. */
function searchPath(): string {
  const { PATH = "" } = process.env;
  return `${PATH}:/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin`;
}

function readOrUndefined(path: string): string | undefined {
  try {
    const bytes = readFileSync(path);
    return (path.endsWith(".gz") ? gunzipSync(bytes) : bytes).toString("utf8");
  } catch {
    // Absent and unreadable are one to a check: the fact is not to be had.
    return undefined;
  }
}

function ownerOf(path: string): { uid: number; mode: number } | undefined {
  const found = statSync(path, { throwIfNoEntry: false });
  return found === undefined ? undefined : { uid: found.uid, mode: found.mode & 0o7777 };
}

function runCommand(command: readonly string[], options: { timeoutMs?: number } = {}): Promise<CommandResult> {
  const [program = "", ...rest] = command;
  return new Promise((resolve) => {
    // A clean environment: variables such as KBUILD_OUTPUT, CROSS_COMPILE or MAKEFLAGS would change what is built.
    const env = { PATH: searchPath(), LC_ALL: "C", HOME: "/nonexistent" };
    const child = spawn(program, rest, {
      env,
      stdio: ["ignore", "pipe", "pipe"],
      timeout: options.timeoutMs ?? RUN_MS,
    });
    let output = "";
    const collect = (chunk: Buffer) => {
      output = (output + chunk.toString("utf8")).slice(-OUTPUT_CHARS_MAX);
    };
    child.stdout.on("data", collect);
    child.stderr.on("data", collect);
    child.once("error", (error) => resolve({ code: 127, output: `${output}${error.message}\n` }));
    child.once("close", (code, signal) =>
      resolve({ code: code ?? 128, output: signal === null ? output : `${output}ended by ${signal}\n` }),
    );
  });
}
