// Compiles access policies to the flat table that the kernel looks up, and explains what it will say. Never reads a file, a clock or the network.

import { MODE } from "./abi.ts";
import { parseAddress } from "./address.ts";
import { encodeTable, type SubjectRow } from "./policy/encode.ts";
import { EntryList } from "./policy/entry.ts";
import { Expander } from "./policy/expand.ts";
import { answerQuestion } from "./policy/explain.ts";
import { deriveFilters } from "./policy/filter.ts";
import { nameRule } from "./policy/name.ts";
import { PeerSets } from "./policy/peer_set.ts";
import { type Connection, TableReader, type Verdict } from "./policy/reader.ts";
import { PolicyIndex, type Selected } from "./policy/subject.ts";
import type { AccessPolicy, ResourceProblem, ResourceSet, Source } from "./resource.ts";
import type { SpiffeId, TrustDomain } from "./spiffe_id.ts";

export type { Connection, Verdict };

/** DNS name, as `listDnsNames` gives it, to the addresses that it has now. A name that is not there is unresolved. */
export type ServiceAddresses = ReadonlyMap<string, readonly string[]>;

export interface PolicyInput {
  readonly resources: ResourceSet;
  readonly trustDomain: TrustDomain;
  /** Subject number (not 0) to identity: every identity that a process of this node has. */
  readonly subjects: ReadonlyMap<number, SpiffeId>;
  readonly addresses: ServiceAddresses;
  readonly generation: bigint;
}

/** What stands behind a rule number of the table. */
export interface RuleInfo {
  readonly resource: AccessPolicy;
  readonly direction: "egress" | "ingress";
  /** Of the rule in that direction's list, from 0. */
  readonly index: number;
  readonly source: Source;
  /** Rules that the table had to join with this one: any of them may be meant. */
  readonly joined: readonly RuleInfo[];
}

export interface CompiledPolicy {
  /** struct riprap_table of kernel/abi.h with all that follows it. */
  readonly table: Uint8Array;
  readonly rules: ReadonlyMap<number, RuleInfo>;
  readonly warnings: readonly ResourceProblem[];
}

/**
 * Compiles. Policies that select one subject add up; deny beats allow; the strictest mode of a direction counts. Throws
 * RiprapError `policy_too_large` or `policy_too_complex` when the kernel's table cannot hold it.
 */
export function compilePolicy(input: PolicyInput): CompiledPolicy {
  const warnings: ResourceProblem[] = [];
  const peers = new PeerSets();
  const expander = new Expander({ ...input, peers, warnings });
  const index = new PolicyIndex(input.resources.policies);
  const entries = new EntryList(expander, peers);
  const modes = new ModeWarnings();
  const subjects: SubjectRow[] = [];
  for (const [subject, id] of [...input.subjects].sort(([a], [b]) => a - b)) {
    const selected = index.select(id);
    for (const policy of selected) {
      if (policy.egress !== undefined) entries.add(subject, false, expander.expand(policy, "egress"));
      if (policy.ingress !== undefined) entries.add(subject, true, expander.expand(policy, "ingress"));
    }
    subjects.push({ subject, egressMode: modeOf(selected, "egress"), ingressMode: modeOf(selected, "ingress") });
    modes.add(selected, id, warnings);
  }
  const rules = entries.finish(input.subjects);
  const filters = deriveFilters(input.resources.identities);
  const used = new Set(rules.map((entry) => entry.rule.peerSet));
  const table = encodeTable({ generation: input.generation, subjects, rules, peers: peers.rows(used), filters });
  return { table, rules: entries.ruleInfos(), warnings };
}

/** What the kernel says of one connection under this table: the same algorithm, for `explain` and for tests. */
export function lookup(table: Uint8Array, connection: Connection): Verdict {
  return new TableReader(table).verdict(connection);
}

/** What is asked of `explainPolicy`. */
export interface PolicyQuestion {
  /** Undefined: a process that no rule selects. */
  readonly from: SpiffeId | undefined;
  /** A place, a Service by name, or whoever has an ID; `peer` with `address` asks for both. */
  readonly to: {
    readonly address?: string;
    readonly port?: number;
    readonly service?: string;
    readonly peer?: SpiffeId;
  };
  /** `to` is then the remote end and `port` the local one. */
  readonly inbound?: boolean;
}

export interface PolicyAnswer {
  /** `plain`: let through without TLS and without an identity. */
  readonly verdict: "allow" | "deny" | "plain" | "unmanaged";
  readonly mode: "none" | "observe" | "permissive" | "enforce";
  readonly rule: RuleInfo | undefined;
  /** The way to the answer, a sentence each. */
  readonly steps: readonly string[];
  /** YAML that allows it once applied, or a sentence where adding something cannot help. */
  readonly remedy: string | undefined;
}

/** What the rules cannot know of other trust domains. */
export interface BundleKnowledge {
  /** Is a bundle of another trust domain held? Left out: it is taken for held. */
  isHeld?(trustDomain: TrustDomain): boolean;
}

/** Why a connection would be allowed or not, from the same compiler. Throws RiprapError `not_found` or `invalid` for a bad question. */
export function explainPolicy(
  question: PolicyQuestion,
  input: Pick<PolicyInput, "resources" | "addresses"> & BundleKnowledge,
): PolicyAnswer {
  const subjects = new Map(question.from === undefined ? [] : [[1, question.from]]);
  const { trustDomain } = input.resources;
  const compiled = compilePolicy({ ...input, trustDomain, subjects, generation: 1n });
  return answerQuestion(question, { ...input, compiled, reader: new TableReader(compiled.table) });
}

/**
 * `AccessPolicy/name#egress[0]`, as flow records show it. Of rules that the table had to join, `peer` (a SPIFFE ID) tells
 * the one that is meant.
 */
export function describeRule(rule: RuleInfo, peer?: string): string {
  return nameRule(rule, peer);
}

/** 16 bytes for a Connection. Throws RangeError for what is no address. */
export function connectionAddress(text: string): Uint8Array {
  const bytes = parseAddress(text);
  if (bytes === undefined) throw new RangeError(`not an address: ${text}`);
  return bytes;
}

function modeOf(selected: readonly Selected[], direction: "egress" | "ingress"): number {
  return Math.max(
    MODE.none,
    ...selected.filter((policy) => policy[direction] !== undefined).map(({ mode }) => MODE[mode]),
  );
}

/** Once for each policy and direction: the first identity stands for all that it selects. */
class ModeWarnings {
  readonly #seen = new Set<string>();

  add(selected: readonly Selected[], id: SpiffeId, warnings: ResourceProblem[]): void {
    for (const direction of ["egress", "ingress"] as const) {
      const speaking = selected.filter((policy) => policy[direction] !== undefined);
      const strictest = modeOf(selected, direction);
      const stricter = speaking.find((policy) => MODE[policy.mode] === strictest);
      const milder = speaking.find((policy) => MODE[policy.mode] < strictest);
      if (milder === undefined || stricter === undefined || this.#seen.has(`${direction} ${milder.name}`)) continue;
      this.#seen.add(`${direction} ${milder.name}`);
      const message = `${milder.mode} has no effect on the ${direction} of ${id}: AccessPolicy ${stricter.name} says ${stricter.mode}`;
      const remedy = "give both the same mode";
      warnings.push({ ...milder.source, code: "mode_overruled", field: "spec.mode", message, remedy });
    }
  }
}
