// Which SPIFFE IDs are the daemon's own and no workload's: other trust domains take the word of one of them for what our bundle is.

/** The first segment of their paths. */
const RESERVED = "riprap";

/** Takes a path without its first slash. */
export function isReservedPath(path: string): boolean {
  return path === RESERVED || path.startsWith(`${RESERVED}/`);
}
