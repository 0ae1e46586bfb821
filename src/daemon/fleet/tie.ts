// What the fleet tells the daemon's other rooms and asks of them. They are built after it, and reached when they are there.

import { type AdoptedRoots, liveSerials, type NodeAuthority, type ToldRoot } from "../../ca.ts";
import type { Clock } from "../../clock.ts";
import { isWithinPrefixes } from "../../enrolment.ts";
import { describeError } from "../../error.ts";
import { type EndpointBody, parseBody, type RootEntry } from "../../federation/body.ts";
import { readSerialSet } from "../../federation/serial_set.ts";
import type { Statement } from "../../federation/statement.ts";
import { certificateOf } from "../../federation/succession.ts";
import { tryParseSerialSetName, tryParseTarget } from "../../fleet.ts";
import { SpiffeId } from "../../spiffe_id.ts";
import type { Store } from "../../store.ts";
import type { Courier } from "../bundle/courier.ts";
import type { DaemonConfig } from "../config.ts";
import type { Log } from "../log.ts";
import type { EnforcementPlane } from "../plane.ts";
import type { Publication } from "../publication.ts";
import type { Registry } from "../registry.ts";
import type { RuleKeeper } from "../rule/keeper.ts";
import type { RuleBook } from "../rule_book.ts";
import type { FleetHooks } from "./hook.ts";
import { listListening } from "./listen_port.ts";
import { nodeAddresses } from "./open.ts";

export interface TiedRooms {
  readonly registry: Registry;
  readonly book: RuleBook;
  readonly rules: RuleKeeper;
  readonly plane: EnforcementPlane;
  readonly courier: Pick<Courier, "connect">;
  /** Opened after the others. */
  readonly late: {
    readonly workloadApi?: { refresh(): Promise<void> } | undefined;
    readonly publication?: Pick<Publication, "jwt">;
    readonly authorities?: { look(): Promise<void> };
    readonly renewer?: { soon(): void };
  };
}

export interface TieParts {
  readonly config: Pick<DaemonConfig, "nodeAddresses">;
  readonly authority: Pick<NodeAuthority, "revoke" | "revokeId" | "revokeKey" | "isRevoked" | "info" | "nodeName">;
  /** Of the node's journal. */
  readonly store: Store;
  readonly clock: Clock;
  readonly log: Log;
  adoptRoots(told: readonly ToldRoot[]): AdoptedRoots;
  /** Undefined while the daemon is being built. */
  rooms(): TiedRooms | undefined;
}

export function fleetHooks(parts: TieParts): FleetHooks {
  const { config, authority, log, rooms } = parts;
  return {
    addresses: () => nodeAddresses(config),
    endpoints: () => listEndpoints(parts),
    jwtKeys: () => rooms()?.late.publication?.jwt.keys ?? [],
    keysChanged() {
      rooms()
        ?.late.workloadApi?.refresh()
        .catch((thrown: unknown) => log.error("streams were not told", { error: describeError(thrown) }));
    },
    async applyResources() {
      const tied = rooms();
      if (tied === undefined) return undefined;
      await tied.rules.reload();
      return tied.book.view.error;
    },
    trustChanged(revoked, own) {
      for (const statement of revoked) {
        try {
          applyRevocation(statement, { ...parts, own });
        } catch (thrown) {
          // The roster refuses it all the same; what this node signed itself may go on until it ends.
          log.error("a revocation could not be kept in the CA", {
            target: statement.name,
            error: describeError(thrown),
          });
        }
      }
      const tied = rooms();
      if (tied === undefined) return;
      tied.plane.trustChanged();
      tied.late.renewer?.soon();
      if (revoked.length === 0) return;
      tied.plane.rulesChanged();
      tied.plane.renewSvids((serial) => authority.isRevoked(serial));
      tied.late.workloadApi?.refresh().catch((thrown: unknown) => {
        log.error("streams were not told", { error: describeError(thrown) });
      });
    },
    rootsChanged: (roots) => rootsChanged(roots, parts),
    renewed() {
      const tied = rooms();
      tied?.plane.trustChanged();
      tied?.late.authorities
        ?.look()
        .catch((thrown: unknown) =>
          log.error("the new intermediate is not in force", { error: describeError(thrown) }),
        );
    },
    connected: (transport) => rooms()?.courier.connect(transport),
    endpointsChanged: () =>
      void rooms()
        ?.book.commit()
        .catch(() => undefined),
  };
}

/** The bundle first, then whoever verifies by it; and this node's own intermediate, when the root above it has had its time. */
function rootsChanged(roots: readonly RootEntry[], { adoptRoots, log, rooms }: TieParts): void {
  try {
    const told = roots.map((entry) => ({ certificate: certificateOf(entry), isRevoked: entry.state === "revoked" }));
    const { added, revoked, refused } = adoptRoots(told);
    for (const reason of refused) log.error("a root of the fleet cannot be one here", { reason });
    if (added.length > 0 || revoked.length > 0)
      log.warn("the roots of the trust domain are others", { added: added.join(), revoked: revoked.join() });
  } catch (thrown) {
    log.error("the roots of the fleet could not be taken in", { error: describeError(thrown) });
  }
  const late = rooms()?.late;
  late?.authorities
    ?.look()
    .catch((thrown: unknown) => log.error("the new roots are not in force", { error: describeError(thrown) }));
  late?.renewer?.soon();
}

/** So that this node's CA signs nothing for it, and its CRL and streams say so. */
function applyRevocation(
  statement: Statement,
  { authority, store, clock, own }: Pick<TieParts, "authority" | "store" | "clock"> & { own: readonly string[] },
): void {
  const { name, body, authorId } = statement;
  const listed = tryParseSerialSetName(name);
  if (listed !== undefined) {
    // A node whose disk is older than its own word finds here what it revoked.
    const live = own.includes(listed.authority) ? liveSerials(store, { ...listed, now: clock.now() }) : undefined;
    if (live !== undefined) revokeListed(statement, { authority, live });
    return;
  }
  const target = tryParseTarget(name);
  const reason = `${parseBody("revocation", { body }).reason} (fleet, by ${authorId})`;
  // The CA knows serial numbers without their authority: any node may revoke what it signed itself, and must not end another's so.
  if (target?.type === "serial" && own.includes(target.authority)) authority.revoke(target.value, reason);
  if (target?.type === "authority") authority.revokeKey(target.value, reason);
  // Of its own intermediate a node has no journal: it signs nothing before it has another, which nobody signs for one that is revoked itself.
  const isOwn =
    (target?.type === "authority" && target.value === own[0]) ||
    (target?.type === "node" && target.value === authority.nodeName);
  if (isOwn) authority.revoke(authority.info().issuer.serial, reason);
  if (target?.type === "id") authority.revokeId(SpiffeId.parse(target.value), reason);
}

function revokeListed(
  statement: Statement,
  { authority, live }: { readonly authority: TieParts["authority"]; readonly live: Uint8Array },
): void {
  for (const serial of readSerialSet(statement).among(live)) {
    if (!authority.isRevoked(serial)) authority.revoke(serial, `in a set of its own (fleet, by ${statement.authorId})`);
  }
}

/** Where this node's workloads listen, at the addresses of the node. */
function listEndpoints({ config, authority, rooms }: TieParts): EndpointBody["endpoints"] {
  const workloads = [...(rooms()?.registry.workloads() ?? [])];
  if (workloads.length === 0) return [];
  const addresses = nodeAddresses(config);
  const { idPrefixes } = authority.info();
  const found = new Map<string, EndpointBody["endpoints"][number]>();
  for (const { state, evidence } of workloads) {
    const spiffeId = state.phase === "ready" ? state.assignment.spiffeId.toString() : "";
    if (spiffeId === "" || !isWithinPrefixes(spiffeId, idPrefixes)) continue;
    for (const { address, port } of listListening(evidence.pid)) {
      for (const each of address === undefined ? addresses : [address]) {
        found.set(`${spiffeId} ${each} ${port}`, { spiffeId, address: each, port });
      }
    }
  }
  return [...found.values()];
}
