// One process's folder of /proc, held open: what it shows is of that very process, or nothing once that has ended. Never follows the number to a later one.

import { closeSync, constants, openSync, readSync } from "node:fs";
import { RiprapError } from "../../error.ts";
import { type FileFacts, tryOpenAt, tryReadLinkAt, tryStatAt } from "../libc.ts";
import {
  type ProcessStat,
  type ProcessStatus,
  parseNamespace,
  parseStat,
  parseStatus,
  TEXT_MAX,
  tryReadAll,
} from "./proc.ts";

/** What one reading needs until it has its text: none waits in between. */
let scratch: Buffer | undefined;

export class ProcessFolder {
  readonly pid: number;
  readonly #folder: number;
  readonly #stat: number;
  /** Opened when it is first asked for: few rules need it. */
  #status: number | undefined;

  private constructor(pid: number, folder: number, stat: number) {
    this.pid = pid;
    this.#folder = folder;
    this.#stat = stat;
  }

  /** Of whoever has the number now: to be pinned besides. RiprapError `not_found`, or with the errno's name as code. */
  static open(pid: number): ProcessFolder {
    let folder: number;
    try {
      folder = openSync(`/proc/${pid}`, constants.O_RDONLY | constants.O_DIRECTORY);
    } catch (cause) {
      const { code = "" } = cause as { readonly code?: string };
      if (code === "ENOENT" || code === "ESRCH") throw noSuch(pid, cause);
      // No descriptor is left, say: the process is there, and cannot be held on to.
      throw new RiprapError(code, `Cannot look at process ${pid}: ${code}`, { cause });
    }
    const stat = tryOpenAt(folder, "stat");
    if (stat !== undefined) return new ProcessFolder(pid, folder, stat);
    closeSync(folder);
    throw noSuch(pid);
  }

  /** Where code and stack lie, name and parent. RiprapError `not_found`. */
  stat(): ProcessStat {
    const text = tryReadFrom(this.#stat, TEXT_MAX);
    const stat = text === undefined ? undefined : parseStat(text);
    if (stat === undefined) throw noSuch(this.pid);
    return stat;
  }

  /** RiprapError `not_found`. */
  status(): ProcessStatus {
    this.#status ??= tryOpenAt(this.#folder, "status");
    const text = this.#status === undefined ? undefined : tryReadFrom(this.#status, TEXT_MAX);
    if (text === undefined || text === "") throw noSuch(this.pid);
    return parseStatus(text);
  }

  /** Effective user and group, also of one that may not be dumped, at a tenth of the cost of `status`. Of a process that has ended, root's: ask whether it lives after this. RiprapError `not_found`. */
  owner(): Pick<FileFacts, "uid" | "gid"> {
    const facts = tryStatAt(this.#folder, "");
    if (facts === undefined) throw noSuch(this.pid);
    return facts;
  }

  /** Empty for a kernel thread, or when it may not be read. */
  exe(): string {
    return tryReadLinkAt(this.#folder, "exe") ?? "";
  }

  /** Its inode; undefined when it may not be read. */
  userNamespace(): number | undefined {
    return parseNamespace(tryReadLinkAt(this.#folder, "ns/user"));
  }

  /** The file that runs, whatever has become of its name. */
  exeFacts(): FileFacts | undefined {
    return tryStatAt(this.#folder, "exe");
  }

  /** As tryReadProgram has it, by a `stat` that was read just now. */
  program({ layout }: Pick<ProcessStat, "layout">): string {
    return `${this.exeFacts()?.identity ?? ""} ${layout}`;
  }

  /** Undefined when it may not be read. `most` is TEXT_MAX at most. */
  tryRead(name: "cmdline" | "cgroup", most: number): string | undefined {
    const fd = tryOpenAt(this.#folder, name);
    return fd === undefined ? undefined : tryReadAll(fd, most);
  }

  close(): void {
    closeSync(this.#stat);
    if (this.#status !== undefined) closeSync(this.#status);
    closeSync(this.#folder);
  }
}

/** From its beginning: of `stat` and `status` one read has all that there is room for. Undefined when its process has ended. */
function tryReadFrom(fd: number, most: number): string | undefined {
  scratch ??= Buffer.allocUnsafeSlow(TEXT_MAX);
  try {
    return scratch.toString("utf8", 0, readSync(fd, scratch, 0, most, 0));
  } catch {
    return undefined;
  }
}

function noSuch(pid: number, cause?: unknown): RiprapError {
  return new RiprapError("not_found", `Cannot read process ${pid}: there is no such process`, { cause });
}
