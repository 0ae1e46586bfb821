// The parents of a process, from /proc. A parent is believed only while its child still names it.

import type { ProcessEvidence } from "./evidence.ts";
import { evidenceOfProc } from "./evidence.ts";
import { readStat } from "./proc.ts";
import { findScript } from "./script.ts";

const ANCESTORS_MAX = 32; // deeper than any service tree; also what ends a loop of reused numbers

export interface Ancestor {
  readonly pid: number;
  readonly name: string;
  /** Empty: unknown, or no word to go by. */
  readonly exe: string;
  readonly uid: number;
  readonly script: string | undefined;
}

/** From the parent up to process 1, whose own facts are the last. Fewer when one of them ends meanwhile. */
export function readAncestors(evidence: ProcessEvidence): readonly Ancestor[] {
  const ancestors: Ancestor[] = [];
  let child: { readonly pid: number; readonly parentPid: number } = evidence;
  while (child.parentPid > 0 && ancestors.length < ANCESTORS_MAX) {
    const parent = tryReadParent(child);
    if (parent === undefined) break;
    const { pid, name, uid, hasForeignPaths } = parent;
    const paths = hasForeignPaths
      ? { exe: "", script: undefined }
      : { exe: parent.exe, script: findScript(parent)?.path };
    ancestors.push({ pid, name, uid, ...paths });
    child = parent;
  }
  return ancestors;
}

// A dead parent's children pass to another: if the child names the same parent after we read it, it was alive all along.
function tryReadParent(child: { readonly pid: number; readonly parentPid: number }): ProcessEvidence | undefined {
  try {
    const parent = evidenceOfProc(child.parentPid);
    return readStat(child.pid).parentPid === child.parentPid ? parent : undefined;
  } catch {
    return undefined;
  }
}
