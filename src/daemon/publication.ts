// What this node tells others to trust: its bundle as of now, and the authority that signs tokens. Made once, for all who hand it on.

import { createHash } from "node:crypto";
import {
  type JwtAuthority,
  type KeyStore,
  lifePolicy,
  type NodeAuthority,
  openJwtAuthority,
  openWitAuthority,
  trustBundle,
  type WitAuthority,
} from "../ca.ts";
import type { Clock } from "../clock.ts";
import type { Store } from "../store.ts";
import type { JwtKey, TrustBundle } from "../trust_bundle.ts";
import type { DaemonConfig } from "./config.ts";

export interface PublicationParts {
  readonly config: Pick<DaemonConfig, "stateDir" | "oidcIssuer" | "jwtAlgorithm" | "keyPublishAhead" | "witSvid">;
  readonly clock: Clock;
  readonly store: Store;
  readonly authority: NodeAuthority;
  /** Shared by all who sign. */
  readonly keys: KeyStore;
  /** Under which other nodes of the trust domain sign JWT-SVIDs. */
  readonly fleetKeys?: () => readonly JwtKey[];
}

export interface Publication {
  readonly jwt: JwtAuthority;
  /** Where the configuration asks for WIT-SVIDs. */
  readonly wit: WitAuthority | undefined;
  /** The same value as long as nothing has changed. */
  bundle(): TrustBundle;
}

/** `jwt` and `bundle()` throw what openJwtAuthority throws. */
export function openPublication({ config, clock, store, authority, keys, fleetKeys }: PublicationParts): Publication {
  const { stateDir, oidcIssuer, jwtAlgorithm: algorithm, keyPublishAhead: publishAheadMs } = config;
  const signing = { stateDir, clock, store, authority, keys, algorithm, policy: lifePolicy({ publishAheadMs }) };
  const named = oidcIssuer === undefined ? {} : { issuer: oidcIssuer };
  // Opened when it is first asked for: it makes a key where there is none.
  let opened: JwtAuthority | undefined;
  const jwtOf = () => (opened ??= openJwtAuthority({ ...signing, ...named }));
  let openedWit: WitAuthority | undefined;
  const witOf = () => {
    if (config.witSvid) openedWit ??= openWitAuthority({ ...signing, ...named });
    return openedWit;
  };
  let last: { readonly from: readonly unknown[]; readonly digest: string; readonly bundle: TrustBundle } | undefined;
  return {
    get jwt() {
      return jwtOf();
    },
    get wit() {
      return witOf();
    },
    bundle() {
      const [own, wit, fleet] = [jwtOf().keys, witOf(), fleetKeys?.() ?? []];
      // Asked for with every SVID: the same lists are the same bundle, without a look at what is in them.
      const from = [authority.bundle, own, wit?.keys, fleet.length === 0 ? undefined : fleet];
      if (last !== undefined && from.every((list, index) => list === last?.from[index])) return last.bundle;
      const others = fleet.filter(({ keyId }) => !own.some((key) => key.keyId === keyId));
      const jwt = { keys: [...own, ...others] };
      const digest = digestOf(authority, [...jwt.keys, ...(wit?.keys ?? [])]);
      const bundle = last?.digest === digest ? last.bundle : trustBundle(store, authority, jwt, wit);
      last = { from, digest, bundle };
      return bundle;
    },
  };
}

function digestOf({ bundle }: Pick<NodeAuthority, "bundle">, keys: JwtAuthority["keys"]): string {
  const hash = createHash("sha256");
  for (const root of bundle) hash.update(root);
  return hash.update(JSON.stringify(keys.map(({ keyId }) => keyId))).digest("hex");
}
