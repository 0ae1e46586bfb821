// Which script an interpreter runs. Says nothing rather than guess: a path that could mean another file has no label.

import { realpathSync, statSync } from "node:fs";
import { basename, isAbsolute } from "node:path";
import type { ProcessEvidence } from "./evidence.ts";
import { tryReadLink } from "./proc.ts";

/** Programs whose first argument, when it is no option, is the script that they run. */
const INTERPRETER =
  /^(?:python[23]?(?:\.\d+)?|pypy3?|node|bun|deno|perl(?:5[\d.]*)?|ruby[\d.]*|php[\d.]*|lua[\d.]*|sh|dash|bash|ksh|zsh|tclsh[\d.]*|Rscript)$/;

export interface ScriptFile {
  /** As the process sees it, resolved where it shares our root. */
  readonly path: string;
  /** Where we can open it. */
  readonly openPath: string;
}

/**
 * The script: what execve was given when the kernel ran an interpreter for it, else the first argument of a known
 * interpreter. Undefined when there is none, or when its path has ".." (which a symbolic link would turn elsewhere).
 */
export function findScript(evidence: ProcessEvidence): ScriptFile | undefined {
  const given = evidence.script !== "" ? evidence.script : firstArgument(evidence);
  if (given === undefined) return undefined;
  const absolute = isAbsolute(given) ? given : join(tryReadLink(evidence.pid, "cwd"), given);
  if (absolute === undefined || absolute.split("/").includes("..")) return undefined;
  const path = absolute.replace(/\/+(?:\.?\/+)*/g, "/");
  if (!sharesRoot(evidence)) return { path, openPath: `/proc/${evidence.pid}/root${path}` };
  try {
    const resolved = realpathSync(path);
    return { path: resolved, openPath: resolved };
  } catch {
    return undefined; // it is gone: what the process runs has no name any more
  }
}

function firstArgument({ exe, argv }: ProcessEvidence): string | undefined {
  const first = argv[1];
  if (first === undefined || first === "" || first.startsWith("-")) return undefined;
  return INTERPRETER.test(basename(exe)) ? first : undefined;
}

function join(folder: string | undefined, name: string): string | undefined {
  return folder === undefined || !isAbsolute(folder) ? undefined : `${folder}/${name}`;
}

let ownMountNamespace: number | undefined;

// A file name means the same file for it and for us: the same mount namespace, and no chroot.
function sharesRoot({ pid, mountNamespace }: ProcessEvidence): boolean {
  ownMountNamespace ??= statSync("/proc/self/ns/mnt").ino;
  return mountNamespace === ownMountNamespace && tryReadLink(pid, "root") === "/";
}
