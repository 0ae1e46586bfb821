// A node's authority, opened beside its daemon, as the daemon would: what it signs for a workload of its own, and what it says of a peer's chain.
import { openAuthority } from "../../src/ca.ts";
import { type Clock, systemClock } from "../../src/clock.ts";
import { openStore, storePath } from "../../src/store.ts";

/** A workload's public key, 65 bytes: the generator of P-256. Nobody signs with it here. */
export const WORKLOAD_KEY = new Uint8Array(
  Buffer.from(
    "046b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c2964fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5",
    "hex",
  ),
);

export function beside<T>(
  stateDir: string,
  use: (authority: ReturnType<typeof openAuthority>) => T,
  clock: Clock = systemClock,
): T {
  const store = openStore(storePath(stateDir));
  const authority = openAuthority({ stateDir, clock, store });
  try {
    return use(authority);
  } finally {
    authority.close();
    store.close();
  }
}
