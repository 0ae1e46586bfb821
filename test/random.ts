// A seeded generator: the same draws on every run, so that a failure can be seen twice.

/** mulberry32: numbers from 0 up to and without 1. */
export function random(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 0x1_0000_0000;
  };
}

/** A whole number from 0 up to and without `below`. */
export function draw(next: () => number, below: number): number {
  return Math.floor(next() * below);
}

export function pick<T>(next: () => number, items: readonly T[]): T {
  return items[draw(next, items.length)] as T;
}
