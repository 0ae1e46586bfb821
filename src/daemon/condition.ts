// Lets someone wait until something has become true, without asking again and again.

export class Condition {
  #waiters = new Set<() => void>();

  /** Something changed: everyone who waits looks again. */
  notify(): void {
    for (const wake of [...this.#waiters]) wake();
  }

  /** Resolves when `holds` is true; rejects with the signal's reason. */
  async until(holds: () => boolean, signal: AbortSignal): Promise<void> {
    while (!holds()) {
      signal.throwIfAborted();
      await new Promise<void>((resolve) => {
        const wake = () => {
          this.#waiters.delete(wake);
          signal.removeEventListener("abort", wake);
          resolve();
        };
        this.#waiters.add(wake);
        signal.addEventListener("abort", wake, { once: true });
      });
    }
  }
}
