// What a serial number comes to in a table: which equation it stands for. For serial numbers that are random already; a seed gives another draw. Pure.

/** As riprap's own CA makes them (src/ca/svid.ts): six octets of the time of signing, fourteen random ones. */
export const SERIAL_BYTES = 20;
/** Four words of coefficients, one of place, one of fingerprint. */
export type SerialHash = Int32Array;
export const HASH_WORDS = 6;
export const PLACE = 4;
export const FINGERPRINT = 5;

/**
 * Of the serial number at an offset, into `out`. Two mixtures of all its words, in no order that one would have to wait for; each word that comes out
 * depends on both.
 */
export function hashSerial(serials: Uint8Array, at: number, seed: number, out: SerialHash): void {
  const turn = Math.imul(seed + 1, 0x9e3779b1);
  const w0 = wordAt(serials, at) ^ turn;
  const w1 = wordAt(serials, at + 4) ^ turn;
  const w2 = wordAt(serials, at + 8) ^ turn;
  const w3 = wordAt(serials, at + 12) ^ turn;
  const w4 = wordAt(serials, at + 16) ^ turn;
  const a =
    Math.imul(w0, 0x85ebca6b) ^
    Math.imul(w1, 0xc2b2ae35) ^
    Math.imul(w2, 0x27d4eb2f) ^
    Math.imul(w3, 0x165667b1) ^
    Math.imul(w4, 0x9e3779b1);
  const b =
    Math.imul(w0, 0x2c1b3c6d) ^
    Math.imul(w1, 0x297a2d39) ^
    Math.imul(w2, 0x7feb352d) ^
    Math.imul(w3, 0x68e31da5) ^
    Math.imul(w4, 0xb5297a4d);
  out[0] = finish(a, b);
  out[1] = finish(a + 0x9e3779b9, b ^ 0x3c6ef35f);
  out[2] = finish(a + 0x3c6ef372, b ^ 0x5be0cd19);
  out[3] = finish(a + 0xdaa66d2b, b ^ 0x1f83d9ab);
  out[PLACE] = finish(a + 0x78dde6e4, b ^ 0x510e527f);
  out[FINGERPRINT] = finish(a + 0x1715609d, b ^ 0x2545f491);
}

/** Four octets as one word. */
export function wordAt(serials: Uint8Array, at: number): number {
  return (
    ((serials[at] as number) << 24) |
    ((serials[at + 1] as number) << 16) |
    ((serials[at + 2] as number) << 8) |
    (serials[at + 3] as number)
  );
}

function finish(a: number, b: number): number {
  const mixed = Math.imul(a ^ (a >>> 16) ^ Math.imul(b ^ (b >>> 15), 0x7feb352d), 0x846ca68b);
  return mixed ^ (mixed >>> 15);
}
