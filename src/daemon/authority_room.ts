// Joins the life of this node's authorities, revocation and the account of what was signed with the rest of the daemon. Contains calls, not work.

import {
  crlPem,
  type KeyStore,
  lifePolicy,
  type NodeAuthority,
  openAuthorities,
  type RootListOptions,
  signedSvids,
  signedUnder,
} from "../ca.ts";
import type { Clock } from "../clock.ts";
import { describeError } from "../error.ts";
import type { Keep, RevocationTarget } from "../fleet.ts";
import type { Store } from "../store.ts";
import { AuthorityKeeper } from "./authority_keeper.ts";
import type { DaemonConfig } from "./config.ts";
import { addAuthorityRoutes } from "./control/authority.ts";
import type { Log } from "./log.ts";
import type { EnforcementPlane } from "./plane.ts";
import type { Publication } from "./publication.ts";
import type { Registry } from "./registry.ts";
import { Revoker } from "./revocation.ts";
import { watchRevocations } from "./revocation_watch.ts";

export interface AuthorityGround {
  readonly config: Pick<DaemonConfig, "stateDir" | "jwtAlgorithm" | "keyPublishAhead" | "witSvid">;
  readonly clock: Clock;
  readonly log: Log;
  readonly store: Store;
  readonly authority: NodeAuthority;
  readonly keys: KeyStore;
  readonly publication: Publication;
}

export interface AuthorityNeighbours {
  readonly plane: EnforcementPlane;
  readonly registry: Registry;
  /** Open streams of the Workload API are judged anew and told. */
  refreshStreams(): Promise<void>;
  /** The fleet's roster names the authority that this node signs with now. */
  refreshRoster?(): void;
  /** Throws where the fleet could not be told of another root: see AuthoritiesOptions. */
  beforeRootMoves?(ending: Uint8Array | undefined, options: RootListOptions): void;
  /** Says a revocation to the fleet; answers a sentence about that, or undefined where there is no fleet. */
  announce?(
    target: RevocationTarget,
    about: { readonly reason: string; readonly keep: Keep },
  ): Promise<string | undefined>;
  /** Hash of the fleet's statement that revokes it; undefined when there is none. */
  standing?(target: RevocationTarget): string | undefined;
}

export interface AuthorityRoom {
  readonly keeper: AuthorityKeeper;
  readonly revoker: Revoker;
  addRoutes(app: Parameters<typeof addAuthorityRoutes>[0]): void;
  stop(): Promise<void>;
}

/** The module answers within milliseconds; a slow machine is given this long before an old root goes. */
const REISSUE_MS = 10_000;
const LOOK_MS = 50;

/** Throws what openAuthorities throws. */
export function startAuthorityRoom(ground: AuthorityGround, neighbours: AuthorityNeighbours): AuthorityRoom {
  const { config, clock, log, store, authority, keys, publication } = ground;
  const { plane, refreshStreams } = neighbours;
  const policy = lifePolicy({ publishAheadMs: config.keyPublishAhead });
  const authorities = openAuthorities({
    ...{ stateDir: config.stateDir, clock, store, keys, policy },
    ...{ algorithm: config.jwtAlgorithm, wit: config.witSvid },
    beforeRootMoves: (ending) =>
      neighbours.beforeRootMoves?.(ending, { stateDir: config.stateDir, store, keys, now: clock.now() }),
  });
  const tellStreams = () => {
    refreshStreams().catch((thrown: unknown) => log.error("streams were not told", { error: describeError(thrown) }));
  };
  const keeper = new AuthorityKeeper({
    ...{ authorities, authority, clock, log },
    bundle: () => publication.bundle(),
    signsAnew: () => neighbours.refreshRoster?.(),
    reissue: () => reissueAll(ground, neighbours),
  });
  keeper.onBundleChange(() => {
    plane.trustChanged();
    tellStreams();
  });
  const revoker = new Revoker({
    ...{ authority, authorities: keeper, log },
    settle: () => store.settle(),
    signedUnder: (serial) => signedUnder(store, serial),
    identitiesChanged() {
      plane.rulesChanged();
      tellStreams();
    },
    async trustChanged() {
      plane.trustChanged();
      plane.renewSvids((serial) => authority.isRevoked(serial));
      await refreshStreams();
    },
    ...(neighbours.announce === undefined ? {} : { announce: neighbours.announce }),
    ...(neighbours.standing === undefined ? {} : { standing: neighbours.standing }),
  });
  const stopping = new AbortController();
  const { signal } = stopping;
  let ids = JSON.stringify(authority.revokedIds());
  const onChange = () => {
    const now = JSON.stringify(authority.revokedIds());
    if (now !== ids) plane.rulesChanged();
    ids = now;
    plane.renewSvids((serial) => authority.isRevoked(serial));
    tellStreams();
    keeper
      .look()
      .catch((thrown: unknown) => log.error("an authority could not go on", { error: describeError(thrown) }));
  };
  const loops = [keeper.run(signal), watchRevocations({ store, clock, onChange }, signal)];
  return {
    keeper,
    revoker,
    addRoutes(app) {
      const signed = (query: Parameters<typeof signedSvids>[1]) => signedSvids(store, query);
      addAuthorityRoutes(app, { authorities: keeper, revocation: revoker, signed, crl: () => crlPem(authority) });
    },
    async stop() {
      stopping.abort();
      await Promise.allSettled(loops);
    },
  };
}

/** Every SVID that the module holds, and every stream's; those that a slow process has not taken in time are left to their own renewal. */
async function reissueAll({ clock, log }: AuthorityGround, neighbours: AuthorityNeighbours): Promise<void> {
  const { plane, registry, refreshStreams } = neighbours;
  const before = new Set<string>();
  for (const { state } of registry.workloads()) if (state.phase === "ready") before.add(state.svid.serial);
  plane.renewSvids(() => true);
  await refreshStreams();
  const isLeft = () =>
    plane.link !== undefined &&
    [...registry.workloads()].some(({ state }) => state.phase === "ready" && before.has(state.svid.serial));
  for (const end = clock.now() + REISSUE_MS; isLeft() && clock.now() < end; ) await clock.sleep(LOOK_MS);
  if (isLeft()) log.error("not every process has a new SVID yet", { waitedMs: REISSUE_MS });
}
