// Serial numbers that this node signed and that live still, and the revoked ones among them as exact sets. Reads the journal; revokes nothing.

import { SerialSet, timeOf } from "../serial_set.ts";
import type { Store } from "../store.ts";
import { Journal } from "./journal.ts";
import { firstSerial, SERIAL_BYTES, SVID_LIFETIME_MAX_MS } from "./svid.ts";

/**
 * What was signed less than this long ago is in no set: the riprap command may have drawn a serial number that it journals in a moment (it waits five
 * seconds for the database at most), and a clock may be set back a little.
 */
const SETTLED_MS = 10_000;
/** Serial numbers that one set is made of at most: more take seconds, and the daemon waits for it. */
const SERIALS_MAX = 2 ** 20;

export interface RevokedSetOptions {
  /** Key identifier of one of this node's intermediates, in hexadecimal. */
  readonly authority: string;
  readonly now: number;
  /** Serial numbers in hexadecimal that are to be said as revoked. */
  readonly revoked: ReadonlySet<string>;
  /** What a set may come to. */
  readonly bytesMax: number;
}

export interface LiveSerials {
  /** 20 octets each, in ascending order. */
  readonly serials: Uint8Array;
  readonly from: number;
  readonly until: number;
}

/** What this node signed under one of its authorities and has not ended. */
export function readLiveSerials(store: Store, { authority, now }: { authority: string; now: number }): LiveSerials {
  const after = firstSerial(now - SVID_LIFETIME_MAX_MS - 60_000);
  const below = firstSerial(now - SETTLED_MS);
  const serials = new Journal(store).serialsUnder(Buffer.from(authority, "hex"), { after, below, now });
  return { serials, from: timeOf(after), until: timeOf(below) };
}

/**
 * Sets of those among `revoked` that this node signed under the authority, each about a span of time of its own: one, unless there are more serial numbers or octets than
 * one may have. What the journal does not know, what has ended and what was signed within the last ten seconds is in none.
 */
export function readRevokedSets(store: Store, options: RevokedSetOptions): readonly SerialSet[] {
  const journal = new Journal(store);
  return makeSets(readLiveSerials(store, options), options, (serial) => journal.notAfterOf(serial) ?? 0);
}

function makeSets(
  live: LiveSerials,
  options: RevokedSetOptions,
  endOf: (serial: Uint8Array) => number,
): readonly SerialSet[] {
  const { serials, from, until } = live;
  const total = serials.length / SERIAL_BYTES;
  const at = (index: number) => serials.subarray(index * SERIAL_BYTES, (index + 1) * SERIAL_BYTES);
  if (total <= SERIALS_MAX) {
    const flags = flagsOf(serials, options.revoked);
    let end = 0;
    for (let index = flags.indexOf(1); index !== -1; index = flags.indexOf(1, index + 1))
      end = Math.max(end, endOf(at(index)));
    if (end === 0) return [];
    const set = SerialSet.make({ serials, from, until, end, isRevoked: (index) => flags[index] === 1 });
    if (set.write().length <= options.bytesMax) return [set];
  }
  // Between two times: those of one time stay together.
  const middle = timeOf(serials, (total >>> 1) * SERIAL_BYTES);
  if (middle === timeOf(serials) || middle === from) return [];
  const split = firstAtOrAfter(serials, middle) * SERIAL_BYTES;
  return [
    ...makeSets({ serials: serials.subarray(0, split), from, until: middle }, options, endOf),
    ...makeSets({ serials: serials.subarray(split), from: middle, until }, options, endOf),
  ];
}

/** By looking up each wanted one: they are few among many. */
function flagsOf(serials: Uint8Array, revoked: ReadonlySet<string>): Uint8Array {
  const flags = new Uint8Array(serials.length / SERIAL_BYTES);
  for (const digits of revoked) {
    const serial = Buffer.from(digits, "hex");
    if (serial.length !== SERIAL_BYTES) continue;
    for (let index = firstAtOrAfter(serials, timeOf(serial)); index < flags.length; index++) {
      const order = Buffer.compare(serial, serials.subarray(index * SERIAL_BYTES, (index + 1) * SERIAL_BYTES));
      if (order === 0) flags[index] = 1;
      if (order <= 0) break;
    }
  }
  return flags;
}

/** Index of the first serial number of this time or a later one. */
function firstAtOrAfter(serials: Uint8Array, time: number): number {
  let [low, high] = [0, serials.length / SERIAL_BYTES];
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (timeOf(serials, middle * SERIAL_BYTES) < time) low = middle + 1;
    else high = middle;
  }
  return low;
}
