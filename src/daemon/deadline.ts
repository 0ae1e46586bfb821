// Things to do at a time, one for each key, in one loop over one clock. The caller bounds the number of keys.

import type { Clock } from "../clock.ts";
import { Waker } from "./waker.ts";

/** How late a step of the wall clock is noticed, or that the machine slept: below the time for which a connection waits for an SVID (attestTimeout). */
const LOOK_AGAIN_MS = 2000;
/** A clock that is slewed, or a leap second, is no step. */
const STEP_BACK_MS = 5000;

interface Deadline<K> {
  readonly key: K;
  readonly at: number;
}

export class Deadlines<K> {
  readonly #clock: Clock;
  /** A binary heap; an entry that #current no longer holds was replaced or dropped. */
  readonly #heap: Deadline<K>[] = [];
  readonly #current = new Map<K, Deadline<K>>();
  readonly #waker: Waker;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#waker = new Waker(clock);
  }

  get size(): number {
    return this.#current.size;
  }

  /** Sets or replaces the key's time. */
  set(key: K, at: number): void {
    const deadline = { key, at };
    const isFirst = at < (this.#heap[0]?.at ?? Number.POSITIVE_INFINITY);
    this.#current.set(key, deadline);
    this.#push(deadline);
    if (this.#heap.length > 64 + 2 * this.#current.size) this.#compact();
    if (isFirst) this.#waker.wake();
  }

  delete(key: K): void {
    this.#current.delete(key);
  }

  clear(): void {
    this.#current.clear();
    this.#heap.length = 0;
  }

  /** Removes and returns the keys that are due, the earliest first. */
  takeDue(now: number): readonly K[] {
    const due: K[] = [];
    for (let first = this.#heap[0]; first !== undefined && first.at <= now; first = this.#heap[0]) {
      this.#pop();
      if (this.#current.get(first.key) !== first) continue;
      this.#current.delete(first.key);
      due.push(first.key);
    }
    return due;
  }

  /**
   * Calls `handle` for each key when it is due, until the signal. When the clock was set back every key is due: what was
   * made by the former time (an SVID that is not valid yet, say) would else stay until that time comes again.
   */
  async run(handle: (key: K) => void, signal: AbortSignal): Promise<void> {
    let latest = Number.NEGATIVE_INFINITY;
    while (!signal.aborted) {
      const now = this.#clock.now();
      for (const key of now < latest - STEP_BACK_MS ? this.#takeAll() : this.takeDue(now)) handle(key);
      latest = now;
      const wait = (this.#heap[0]?.at ?? Number.POSITIVE_INFINITY) - this.#clock.now();
      await this.#waker.sleep(Math.min(LOOK_AGAIN_MS, wait), signal);
    }
  }

  #takeAll(): readonly K[] {
    const keys = [...this.#current.keys()];
    this.clear();
    return keys;
  }

  #push(deadline: Deadline<K>): void {
    const heap = this.#heap;
    let index = heap.push(deadline) - 1;
    while (index > 0) {
      const parent = (index - 1) >> 1;
      if ((heap[parent] as Deadline<K>).at <= deadline.at) break;
      heap[index] = heap[parent] as Deadline<K>;
      index = parent;
    }
    heap[index] = deadline;
  }

  #pop(): void {
    const heap = this.#heap;
    const last = heap.pop();
    if (last === undefined || heap.length === 0) return;
    let index = 0;
    for (;;) {
      const left = 2 * index + 1;
      if (left >= heap.length) break;
      const right = left + 1;
      const next =
        right < heap.length && (heap[right] as Deadline<K>).at < (heap[left] as Deadline<K>).at ? right : left;
      if ((heap[next] as Deadline<K>).at >= last.at) break;
      heap[index] = heap[next] as Deadline<K>;
      index = next;
    }
    heap[index] = last;
  }

  #compact(): void {
    const live = [...this.#current.values()];
    this.#heap.length = 0;
    for (const deadline of live) this.#push(deadline);
  }
}
