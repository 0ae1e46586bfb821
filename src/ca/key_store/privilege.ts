// Work as the user that started the process, inside work as another: a command of root's writes files as the daemon's user, and only root may reach the seal.

/** Synchronous, so that nothing else of the process runs meanwhile. A process that was never root is left as it is. */
export function asStarter<T>(work: () => T): T {
  const user = process.geteuid?.() ?? 0;
  const group = process.getegid?.() ?? 0;
  if (user === 0 || process.getuid?.() !== 0) return work();
  process.seteuid?.(0);
  process.setegid?.(0);
  try {
    return work();
  } finally {
    process.setegid?.(group);
    process.seteuid?.(user);
  }
}
