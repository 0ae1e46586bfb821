// Signs the keys that the module made, keeps account of who holds which SVID, and renews them in time. Never sees a private key.

import type { NodeAuthority } from "../ca.ts";
import type { Clock } from "../clock.ts";
import { describeError } from "../error.ts";
import type { SpiffeId } from "../spiffe_id.ts";
import type { Store } from "../store.ts";
import { Deadlines } from "./deadline.ts";
import type { DeviceSession } from "./device.ts";
import type { Log } from "./log.ts";
import type { Assignment, InstalledSvid, PendingKey, Workload } from "./registry.ts";
import { keyRetryTime, renewalTime, retryTime } from "./renewal.ts";
import type { DaemonState, HeldSvid } from "./state.ts";

export interface IssuanceParts {
  readonly authority: NodeAuthority;
  readonly state: DaemonState;
  readonly store: Store;
  readonly clock: Clock;
  readonly log: Log;
  readonly random: () => number;
  /** Told of each SVID that ended with its process. */
  readonly onRevoked: (serial: string) => void;
}

/** The open device, and which load of the module it is. */
export interface OpenLink {
  readonly session: DeviceSession;
  readonly boot: bigint;
}

export interface IssuanceCounters {
  issued: number;
  renewed: number;
  failed: number;
  revoked: number;
}

export class Issuance {
  readonly counters: IssuanceCounters = { issued: 0, renewed: 0, failed: 0, revoked: 0 };
  readonly deadlines: Deadlines<bigint>;
  readonly #parts: IssuanceParts;

  constructor(parts: IssuanceParts) {
    this.#parts = parts;
    this.deadlines = new Deadlines(parts.clock);
  }

  /** Why nothing may be signed for the ID now; undefined when it may. */
  revokedIdReason(spiffeId: SpiffeId): string | undefined {
    return this.#parts.authority.revokedIdReason(spiffeId);
  }

  isRevoked(serial: string): boolean {
    return this.#parts.authority.isRevoked(serial);
  }

  /** Signs the workload's pending key and installs the SVID; a failure is tried again later. */
  sign(workload: Workload, link: OpenLink): void {
    const { state, key } = workload;
    if (key === undefined || (state.phase !== "assigned" && state.phase !== "ready")) return;
    const earlier = state.phase === "ready" ? state.svid : undefined;
    try {
      const { svid, chain } = this.#issue(workload, { assignment: state.assignment, key, link, earlier });
      workload.key = undefined;
      workload.attempts = 0;
      workload.state = { phase: "ready", assignment: state.assignment, svid };
      this.deadlines.set(workload.instance, renewalTime(svid, this.#parts.random()));
      this.#install(workload, { svid, chain, link });
    } catch (thrown) {
      this.counters.failed += 1;
      this.#parts.log.error("an SVID could not be issued", { ...describe(workload), error: describeError(thrown) });
      this.#retry(workload);
    }
  }

  /** Keeps the SVID that the module holds from an earlier daemon. */
  keep(workload: Workload, assignment: Assignment, held: HeldSvid): void {
    workload.state = { phase: "ready", assignment, svid: { ...held, keyId: 0n, renewals: 0 } };
    this.deadlines.set(workload.instance, renewalTime(held, this.#parts.random()));
  }

  /** A deadline has come: signs the key that waits, or asks the module for a new one. */
  renew(workload: Workload, link: OpenLink): void {
    if (workload.key !== undefined) {
      this.sign(workload, link);
      return;
    }
    link.session.send("renew", { instance: workload.instance });
    this.expectKey(workload);
  }

  /** The module owes a KEY, which signs and sets the deadline anew; it is asked again when none comes. */
  expectKey(workload: Workload): void {
    this.deadlines.set(workload.instance, keyRetryTime(this.#parts.clock.now(), termOf(workload)));
  }

  /** The process or its identity has ended: no more renewals, and every SVID of it that could still be shown is revoked. */
  revoke(instance: bigint, boot: bigint, reason: string): void {
    this.deadlines.delete(instance);
    this.revokeAll(this.#parts.state.release({ boot, instance }), reason);
  }

  revokeAll(svids: readonly HeldSvid[], reason: string): void {
    const { authority, clock, log, onRevoked, store } = this.#parts;
    const now = clock.now();
    store.transaction(() => {
      for (const { serial, spiffeId, notAfter } of svids) {
        if (notAfter <= now) continue;
        authority.revoke(serial, reason);
        onRevoked(serial);
        this.counters.revoked += 1;
        log.debug("an SVID was revoked", { serial, spiffeId, reason });
      }
    });
  }

  #issue(
    workload: Workload,
    about: { assignment: Assignment; key: PendingKey; link: OpenLink; earlier: InstalledSvid | undefined },
  ) {
    const { authority, clock, state, store } = this.#parts;
    const { assignment, key, link, earlier } = about;
    const { instance, evidence } = workload;
    return store.transaction(() => {
      const { spiffeId, lifetimeSeconds, dnsNames, rule, because } = assignment;
      const { pid, exe, uid } = evidence;
      const by = { by: "kernel", instance: instance.toString(), boot: link.boot.toString() };
      const context = { ...by, pid, exe, uid, rule, because };
      const issued = authority.issueX509Svid({
        spiffeId,
        publicKey: key.publicKey,
        lifetimeSeconds,
        dnsNames,
        context,
      });
      const { serial, chain } = issued;
      const held = {
        serial,
        spiffeId: spiffeId.toString(),
        issuedAt: clock.now(),
        notBefore: issued.notBefore.getTime(),
        notAfter: issued.notAfter.getTime(),
      };
      state.hold({ boot: link.boot, instance }, held);
      const renewals = earlier === undefined ? 0 : earlier.renewals + 1;
      this.counters[earlier === undefined ? "issued" : "renewed"] += 1;
      return { chain, svid: { ...held, keyId: key.keyId, renewals } };
    });
  }

  #install(workload: Workload, about: { svid: InstalledSvid; chain: readonly Uint8Array[]; link: OpenLink }): void {
    const { svid, chain, link } = about;
    const notBefore = BigInt(svid.notBefore / 1000);
    const notAfter = BigInt(svid.notAfter / 1000);
    const body = { instance: workload.instance, keyId: svid.keyId, notBefore, notAfter, chain };
    link.session.ask("svid", body).catch((thrown: unknown) => {
      // The process may have ended, or have been given another identity: then there is nothing to mend.
      if (workload.state.phase !== "ready" || workload.state.svid !== svid) return;
      this.counters.failed += 1;
      this.#parts.log.warn("the module did not take an SVID", { ...describe(workload), error: describeError(thrown) });
      workload.state = { phase: "assigned", assignment: workload.state.assignment };
      this.#retry(workload);
    });
  }

  #retry(workload: Workload): void {
    const at = retryTime(this.#parts.clock.now(), termOf(workload), workload.attempts);
    workload.attempts += 1;
    this.deadlines.set(workload.instance, at);
  }
}

function termOf({ state }: Workload): HeldSvid | undefined {
  return state.phase === "ready" ? state.svid : undefined;
}

function describe({ instance, evidence, state }: Workload) {
  const spiffeId = "assignment" in state ? state.assignment.spiffeId.toString() : undefined;
  return { instance, pid: evidence.pid, name: evidence.name, spiffeId };
}
