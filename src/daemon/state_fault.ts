// Turns what the machine says when state cannot be kept (disk full, read-only, database locked) into a sentence that says what a person must do.

import { describeError, RiprapError } from "../error.ts";

const FACTS: readonly (readonly [code: RegExp, fact: string])[] = [
  [/^(ENOSPC|EDQUOT|SQLITE_FULL)$/, "the disk is full; make room"],
  [/^(EROFS|EACCES|EPERM|SQLITE_READONLY|SQLITE_CANTOPEN)/, "the state directory cannot be written; make it writable"],
  [/^(SQLITE_BUSY|SQLITE_LOCKED)/, "another program holds the database; end it"],
  [/^(EIO|SQLITE_IOERR)/, "the disk fails; see the kernel's log"],
  [/^(SQLITE_CORRUPT|SQLITE_NOTADB)/, "the database is damaged; stop the daemon and restore state.db from a copy"],
];

/** RiprapError `state_unusable` for such a failure; every other thrown value as it is. Steps that were kept stay, so that the same can be asked again. */
export function asStateFault(thrown: unknown, verb: string): unknown {
  if (thrown instanceof RiprapError) return thrown;
  const code = (thrown as { code?: unknown } | undefined)?.code;
  const fact = typeof code === "string" ? FACTS.find(([known]) => known.test(code))?.[1] : undefined;
  if (fact === undefined) return thrown;
  const remedy = `${fact}, then do it again (${describeError(thrown)})`;
  return new RiprapError("state_unusable", `Cannot ${verb}: ${remedy}`, { cause: thrown });
}
