// The refusal of a command line that cannot be understood: exit status 2.

import { RiprapError } from "../error.ts";

/** The code of a usage error, and of nothing else. */
export const USAGE = "usage";

/** `fact` completes "Cannot …"; `command` is what the person should ask help of. */
export function usageError(message: string, command = "riprap"): RiprapError {
  return new RiprapError(USAGE, `${message}; see "${command} --help"`);
}
