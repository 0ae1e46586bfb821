// The processes that the module reported and their identities, and the numbers by which the rule table knows them.

import { ABI } from "../abi.ts";
import { RiprapError } from "../error.ts";
import type { Delivery } from "../resource.ts";
import type { SpiffeId } from "../spiffe_id.ts";
import type { ProcessEvidence } from "./attestation/evidence.ts";
import type { HeldSvid } from "./state.ts";

/** kernel/limits.h: the module keeps no more records. */
const WORKLOADS_MAX = 262_144;

/** An identity as the rules give it to one process. */
export interface Assignment {
  readonly spiffeId: SpiffeId;
  /** `WorkloadIdentity/name` */
  readonly rule: string;
  /** A sentence for each label that matched: goes to the journal with every SVID. */
  readonly because: readonly string[];
  readonly lifetimeSeconds: number;
  readonly dnsNames: readonly string[];
  readonly delivery: Delivery;
}

export interface InstalledSvid extends HeldSvid {
  readonly keyId: bigint;
  readonly renewals: number;
}

/** A public key that waits for its signature, and how often that failed. */
export interface PendingKey {
  readonly keyId: bigint;
  readonly publicKey: Uint8Array;
}

export type WorkloadState =
  | { readonly phase: "pending" }
  | { readonly phase: "assigned"; readonly assignment: Assignment }
  | { readonly phase: "ready"; readonly assignment: Assignment; readonly svid: InstalledSvid }
  | { readonly phase: "withdrawn"; readonly reason: string };

export interface Workload {
  readonly instance: bigint;
  readonly evidence: ProcessEvidence;
  state: WorkloadState;
  key: PendingKey | undefined;
  /** Failed tries to renew or to sign since the last success. */
  attempts: number;
}

const NUMBERED_SINCE = Date.UTC(2020, 0, 1);
/** Half of what a u32 holds: more are never in use. */
const FIRST_SUBJECT_MAX = 2 ** 31;

/**
 * Where a daemon that starts now begins to number: above all that an earlier one gave, unless that was more than one a second for all its life. A
 * connection that is open in the kernel has its identity by number, and must not be judged by another's rules after a restart.
 */
export function firstSubjectAt(now: number): number {
  const seconds = Math.floor((now - NUMBERED_SINCE) / 1000);
  return Math.min(Math.max(seconds, 1), FIRST_SUBJECT_MAX);
}

export class Registry {
  readonly #workloads = new Map<bigint, Workload>();
  /** PID to the records that have it: for a moment there are two, when a process changes its user. */
  readonly #pids = new Map<number, readonly Workload[]>();
  readonly #numbers = new Map<string, number>();
  readonly #subjects = new Map<number, SpiffeId>();
  /** The last one of each ID. */
  readonly #assignments = new Map<string, Assignment>();
  #nextSubject: number;

  /** Numbers go up from `firstSubject`. */
  constructor(firstSubject = 1) {
    this.#nextSubject = firstSubject;
  }

  get size(): number {
    return this.#workloads.size;
  }

  workloads(): IterableIterator<Workload> {
    return this.#workloads.values();
  }

  get(instance: bigint): Workload | undefined {
    return this.#workloads.get(instance);
  }

  /** A new record in phase `pending`, in place of one with the same instance. RiprapError `too_many` past the module's own bound. */
  add(instance: bigint, evidence: ProcessEvidence): Workload {
    if (this.#workloads.size >= WORKLOADS_MAX && !this.#workloads.has(instance)) {
      throw new RiprapError("too_many", `Cannot keep a record of process ${evidence.pid}: there are ${WORKLOADS_MAX}`);
    }
    this.remove(instance);
    const workload: Workload = { instance, evidence, state: { phase: "pending" }, key: undefined, attempts: 0 };
    this.#workloads.set(instance, workload);
    this.#pids.set(evidence.pid, [...(this.#pids.get(evidence.pid) ?? []), workload]);
    return workload;
  }

  hasPid(pid: number): boolean {
    return this.#pids.has(pid);
  }

  /** The oldest record of a process. */
  ofPid(pid: number): Workload | undefined {
    return this.#pids.get(pid)?.[0];
  }

  /** Is this very record still in force? Asked after every wait. */
  has(workload: Workload): boolean {
    return this.#workloads.get(workload.instance) === workload;
  }

  remove(instance: bigint): Workload | undefined {
    const workload = this.#workloads.get(instance);
    if (workload === undefined) return undefined;
    this.#workloads.delete(instance);
    const { pid } = workload.evidence;
    const left = this.#pids.get(pid)?.filter((other) => other !== workload) ?? [];
    if (left.length === 0) this.#pids.delete(pid);
    else this.#pids.set(pid, left);
    return workload;
  }

  clear(): void {
    this.#workloads.clear();
    this.#pids.clear();
    this.#numbers.clear();
    this.#subjects.clear();
    this.#assignments.clear();
  }

  /** The equal one that another process has, or this: processes of one rule hold it together. */
  share(assignment: Assignment): Assignment {
    const id = assignment.spiffeId.toString();
    const known = this.#assignments.get(id);
    if (known !== undefined && Bun.deepEquals({ ...assignment, spiffeId: known.spiffeId }, known)) return known;
    if (this.#numbers.has(id)) this.#assignments.set(id, assignment);
    return assignment;
  }

  /** What the compiler needs: every subject number in use. */
  subjects(): ReadonlyMap<number, SpiffeId> {
    return this.#subjects;
  }

  numberOf(spiffeId: SpiffeId): number | undefined {
    return this.#numbers.get(spiffeId.toString());
  }

  /** The number of an ID, a new one when it has none. RiprapError `too_many` past the table's bound. */
  enrol(spiffeId: SpiffeId): number {
    const known = this.numberOf(spiffeId);
    if (known !== undefined) return known;
    if (this.#subjects.size >= ABI.TABLE_SUBJECTS_MAX) {
      throw new RiprapError(
        "too_many",
        `Cannot number ${spiffeId}: there are ${ABI.TABLE_SUBJECTS_MAX} identities in use`,
      );
    }
    while (this.#subjects.has(this.#nextSubject)) this.#nextSubject += 1;
    this.#number(this.#nextSubject, spiffeId);
    return this.#nextSubject++;
  }

  /** Keeps the number that the module has for an ID from an earlier daemon; false when either is taken otherwise. */
  restore(subject: number, spiffeId: SpiffeId): boolean {
    const number = this.numberOf(spiffeId);
    if (number === subject) return true;
    if (subject === 0 || number !== undefined || this.#subjects.has(subject)) return false;
    this.#number(subject, spiffeId);
    return true;
  }

  /** Frees the numbers of IDs that neither `keep` names nor a process has. */
  retain(keep: readonly SpiffeId[]): void {
    const used = new Set(keep.map(String));
    for (const { state } of this.#workloads.values()) {
      if ("assignment" in state) used.add(state.assignment.spiffeId.toString());
    }
    for (const [text, number] of this.#numbers) {
      if (used.has(text)) continue;
      this.#numbers.delete(text);
      this.#subjects.delete(number);
      this.#assignments.delete(text);
    }
  }

  #number(subject: number, spiffeId: SpiffeId): void {
    this.#numbers.set(spiffeId.toString(), subject);
    this.#subjects.set(subject, spiffeId);
  }
}
