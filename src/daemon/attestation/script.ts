// Which script an interpreter runs. Says nothing rather than guess: a path that could mean another file has no label.

import { readlinkSync } from "node:fs";
import { basename, isAbsolute } from "node:path";
import type { ProcessEvidence } from "./evidence.ts";
import { tryReadLink } from "./proc.ts";

/** Programs whose first argument, when it is no option, is the script that they run. */
const INTERPRETER =
  /^(?:python[23]?(?:\.\d+)?|pypy3?|node|bun|deno|perl(?:5[\d.]*)?|ruby[\d.]*|php[\d.]*|lua[\d.]*|sh|dash|bash|ksh|zsh|tclsh[\d.]*|Rscript)$/;

/** Symbolic links that are followed, as the kernel has it (MAXSYMLINKS). */
const LINKS_MAX = 40;

export interface ScriptFile {
  /** As the process's own root has it, every symbolic link resolved. */
  readonly path: string;
  /** Where we can open it, whatever our own root is. */
  readonly openPath: string;
}

/**
 * The script: what execve was given when the kernel ran an interpreter for it, else the first argument of a known
 * interpreter. Undefined when there is none or it cannot be resolved: a path is never taken at its word.
 */
export function findScript(evidence: ProcessEvidence): ScriptFile | undefined {
  const given = evidence.script !== "" ? evidence.script : firstArgument(evidence);
  if (given === undefined) return undefined;
  const absolute = isAbsolute(given) ? given : join(tryReadLink(evidence.pid, "cwd"), given);
  const root = `/proc/${evidence.pid}/root`;
  const path = absolute === undefined ? undefined : resolveUnder(root, absolute);
  return path === undefined ? undefined : { path, openPath: root + path };
}

function firstArgument({ exe, argv }: ProcessEvidence): string | undefined {
  const first = argv[1];
  if (first === undefined || first === "" || first.startsWith("-")) return undefined;
  return INTERPRETER.test(basename(exe)) ? first : undefined;
}

function join(folder: string | undefined, name: string): string | undefined {
  return folder === undefined || !isAbsolute(folder) ? undefined : `${folder}/${name}`;
}

/** realpath(3) of an absolute path inside another root; undefined when a part is not there or may not be looked at. */
export function resolveUnder(root: string, path: string): string | undefined {
  const left = path.split("/").reverse();
  const done: string[] = [];
  let links = 0;
  while (left.length > 0) {
    const part = left.pop();
    if (part === undefined || part === "" || part === ".") continue;
    if (part === "..") {
      done.pop();
      continue;
    }
    const link = tryFollow(`${root}/${[...done, part].join("/")}`);
    if (link === undefined) return undefined;
    if (link === "") {
      done.push(part);
      continue;
    }
    if (++links > LINKS_MAX) return undefined;
    if (isAbsolute(link)) done.length = 0;
    left.push(...link.split("/").reverse());
  }
  return `/${done.join("/")}`;
}

/** Where a symbolic link points; empty: it is none; undefined: it is not there. */
function tryFollow(path: string): string | undefined {
  try {
    return readlinkSync(path);
  } catch (thrown) {
    return (thrown as NodeJS.ErrnoException).code === "EINVAL" ? "" : undefined;
  }
}
