// The rules in force: judged, compiled, handed to the module and acknowledged, one generation after another. What cannot be put in force changes nothing.

import type { Clock } from "../clock.ts";
import { describeError, RiprapError } from "../error.ts";
import { type CompiledPolicy, compilePolicy, describeRule, type ServiceAddresses } from "../policy.ts";
import type { ResourceSet } from "../resource.ts";
import { SpiffeId } from "../spiffe_id.ts";
import { ALL_LABELS, RUNNING_DIGEST, type WantedLabels, wantedLabels } from "./attestation/wanted.ts";
import type { Generation } from "./control/port.ts";
import type { Log } from "./log.ts";
import type { Registry } from "./registry.ts";
import type { DaemonState } from "./state.ts";

/** How many generations back a flow's rule number can still be named. */
const GENERATIONS_KEPT = 16;

/** Puts a table in force; resolves when the module has acknowledged it. */
export interface TableSink {
  pushTable(table: Uint8Array, generation: bigint): Promise<void>;
  /** The module's own: a pushed one must be greater. */
  readonly tableGeneration: bigint;
}

export interface RuleBookParts {
  readonly registry: Registry;
  readonly state: DaemonState;
  readonly clock: Clock;
  readonly log: Log;
  addresses(): ServiceAddresses;
  /** SHA-256 of each executable whose processes may have no identity, with the reason. */
  revokedExecutables?(): ReadonlyMap<string, string>;
}

export class RuleBook {
  readonly #parts: RuleBookParts;
  #resources: ResourceSet | undefined;
  #candidate: ResourceSet | undefined;
  #wanted: WantedLabels = ALL_LABELS;
  #sink: TableSink | undefined;
  #desired: bigint;
  #applied = 0n;
  #error: string | undefined;
  #compiled: CompiledPolicy | undefined;
  readonly #rules = new Map<bigint, CompiledPolicy["rules"]>();
  /** IDs with a number that the module does not know yet. */
  readonly #waiting = new Set<SpiffeId>();
  /** Numbers that the table in force has. */
  #numbered: ReadonlySet<number> = new Set();
  #running: Promise<void> = Promise.resolve();
  #next: Promise<void> | undefined;

  constructor(parts: RuleBookParts) {
    this.#parts = parts;
    this.#desired = parts.state.current("rules").value;
  }

  /** In force; undefined before the first good set. */
  get resources(): ResourceSet | undefined {
    return this.#resources;
  }

  /** With the digest of executables, which costs a read of each, when one of them is revoked. */
  get wanted(): WantedLabels {
    const wanted = this.#wanted;
    if ((this.#parts.revokedExecutables?.().size ?? 0) === 0) return wanted;
    return {
      has: (label) => label === RUNNING_DIGEST || wanted.has(label),
      hasPrefix: (prefix) => RUNNING_DIGEST.startsWith(prefix) || wanted.hasPrefix(prefix),
    };
  }

  /** Why no process of this executable (empty: it could not be read) may have an identity. */
  revokedExecutable(sha256: string): string | undefined {
    const revoked = this.#parts.revokedExecutables?.();
    if (sha256 === "" && (revoked?.size ?? 0) > 0)
      return "its executable cannot be read, so that it cannot be told from those that are revoked";
    const reason = revoked?.get(sha256);
    return reason === undefined ? undefined : `its executable ${sha256} is revoked: ${reason}`;
  }

  /** The table in force. */
  get table(): Uint8Array | undefined {
    return this.#compiled?.table;
  }

  get view(): Generation {
    const error = this.#error === undefined ? {} : { error: this.#error };
    return { desired: Number(this.#desired), applied: Number(this.#applied), ...error };
  }

  get warnings(): readonly string[] {
    const problems = [...(this.#resources?.warnings ?? []), ...(this.#compiled?.warnings ?? [])];
    return problems.map(({ file, line, message, remedy }) => `${file}:${line}: ${message}; ${remedy}`);
  }

  /** `AccessPolicy/name#egress[0]` of a flow's rule number; undefined when its generation is long gone. */
  ruleName(generation: bigint, rule: number): string | undefined {
    const info = this.#rules.get(generation)?.get(rule);
    return info === undefined ? undefined : describeRule(info);
  }

  /** From now on generations are in force when `sink` has acknowledged them; undefined: there is no module. */
  attach(sink: TableSink | undefined): void {
    this.#sink = sink;
    if (sink !== undefined) this.#applied = 0n;
    this.#numbered = new Set();
  }

  /** A new set of rules; resolves when it is in force, rejects when it cannot be, and the earlier one stays. */
  swap(resources: ResourceSet): Promise<void> {
    this.#candidate = resources;
    return this.commit();
  }

  /** Rules that could not even be read: they are desired, and the last good ones stay applied. */
  refuse(error: unknown): void {
    this.#desired = this.#nextGeneration();
    this.#error = describeError(error);
    this.#parts.log.error("rules were refused", { generation: this.#desired, error: this.#error });
  }

  /** The subject number of an ID, once the table in force has it. */
  async subjectOf(spiffeId: SpiffeId): Promise<number> {
    const { registry } = this.#parts;
    const known = registry.numberOf(spiffeId);
    if (known !== undefined && this.#numbered.has(known)) return known;
    this.#waiting.add(spiffeId);
    try {
      registry.enrol(spiffeId);
      // Rules that are refused must not hold up a process that the earlier ones know: the second try is without them.
      await this.commit().catch(() => this.commit());
      const number = registry.numberOf(spiffeId);
      if (number !== undefined && this.#numbered.has(number)) return number;
      throw new RiprapError("rules_not_applied", `Cannot number ${spiffeId}: the rule table in force does not have it`);
    } finally {
      this.#waiting.delete(spiffeId);
    }
  }

  /** Compiles and applies what is known now; calls that come while one runs share the next. */
  commit(): Promise<void> {
    if (this.#next !== undefined) return this.#next;
    const next = this.#running.then(() => {
      this.#next = undefined;
      const work = this.#compileAndApply();
      this.#running = work.catch(() => undefined);
      return work;
    });
    this.#next = next;
    return next;
  }

  async #compileAndApply(): Promise<void> {
    const resources = this.#candidate ?? this.#resources;
    if (resources === undefined) return;
    const isNew = resources !== this.#resources;
    const generation = this.#nextGeneration();
    this.#desired = generation;
    try {
      const compiled = this.#compile(resources, generation);
      const numbered = new Set(this.#parts.registry.subjects().keys());
      await this.#sink?.pushTable(compiled.table, generation);
      this.#putInForce(resources, compiled, generation);
      this.#numbered = numbered;
      if (isNew) this.#parts.log.info("rules are in force", { generation, bytes: compiled.table.length });
    } catch (thrown) {
      this.#error = describeError(thrown);
      this.#parts.log.error("rules could not be put in force", { generation, error: this.#error });
      throw thrown;
    } finally {
      if (this.#candidate === resources) this.#candidate = undefined;
    }
  }

  #compile(resources: ResourceSet, generation: bigint): CompiledPolicy {
    const { registry, addresses } = this.#parts;
    const fixed = fixedIds(resources);
    registry.retain([...fixed, ...this.#waiting]);
    for (const id of fixed) registry.enrol(id);
    const subjects = registry.subjects();
    return compilePolicy({
      resources,
      trustDomain: resources.trustDomain,
      subjects,
      addresses: addresses(),
      generation,
    });
  }

  #putInForce(resources: ResourceSet, compiled: CompiledPolicy, generation: bigint): void {
    if (resources !== this.#resources) this.#wanted = wantedLabels(resources);
    this.#resources = resources;
    this.#compiled = compiled;
    this.#applied = generation;
    this.#error = undefined;
    this.#rules.set(generation, compiled.rules);
    const oldest = this.#rules.size > GENERATIONS_KEPT ? this.#rules.keys().next().value : undefined;
    if (oldest !== undefined) this.#rules.delete(oldest);
  }

  #nextGeneration(): bigint {
    return this.#parts.state.next("rules", this.#sink?.tableGeneration ?? 0n);
  }
}

/** IDs without a template: numbered before a process has them, so that its admission waits for no new table. */
function fixedIds(resources: ResourceSet): readonly SpiffeId[] {
  const ids = new Map<string, SpiffeId>();
  for (const { workloadId } of resources.identities) {
    const id = workloadId.includes("[") ? undefined : SpiffeId.tryParse(`${resources.trustDomain.id}/${workloadId}`);
    if (id !== undefined) ids.set(id.toString(), id);
  }
  return [...ids.values()];
}
