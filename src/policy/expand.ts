// One direction of one policy to flat rules: services to addresses, ports to prefixes, peers to sets. Knows no subject.
import { ABI, ACTION } from "../abi.ts";
import { AddressPrefix } from "../address.ts";
import { RiprapError } from "../error.ts";
import type { IdPattern } from "../id_pattern.ts";
import type { PolicyInput, RuleInfo } from "../policy.ts";
import { intersectPorts, type PortRange } from "../port_range.ts";
import type { AccessPolicy, Destination, PolicyRule, ResourceProblem, Service, TlsChoice } from "../resource.ts";
import type { SpiffeId } from "../spiffe_id.ts";
import type { PeerSets } from "./peer_set.ts";
import { portPrefixes } from "./port_prefix.ts";

/** A struct riprap_table_rule without its subject and direction. */
export interface FlatRule {
  readonly number: number;
  readonly address: AddressPrefix;
  /** The address as four big-endian words: what sorting compares. */
  readonly words: readonly [number, number, number, number];
  readonly port: number;
  readonly portBits: number;
  readonly action: number;
  readonly peerSet: number;
}

/**
 * Rule numbers are `action * NUMBER_STEP + place of the rule`: of rules for the same address and port the kernel takes
 * the lowest number first, and so the safest action (deny, mutual, passthrough, plain).
 */
export const NUMBER_STEP = 1_000_000;

type Direction = RuleInfo["direction"];

interface Options extends Pick<PolicyInput, "resources" | "addresses"> {
  readonly peers: PeerSets;
  readonly warnings: ResourceProblem[];
}

export class Expander {
  readonly #options: Options;
  /** Place of the first rule of each policy's direction, from 1. */
  readonly #places = new Map<AccessPolicy, Readonly<Record<Direction, number>>>();
  readonly #infos = new Map<number, RuleInfo>();
  readonly #done = new Map<readonly PolicyRule[], readonly FlatRule[]>();
  readonly #unresolved = new Set<string>();
  #next = 1;

  constructor(options: Options) {
    this.#options = options;
    for (const policy of options.resources.policies) {
      const egress = this.#next;
      const ingress = egress + (policy.egress?.length ?? 0);
      this.#next = ingress + (policy.ingress?.length ?? 0);
      this.#places.set(policy, { egress, ingress });
    }
    if (this.#next >= NUMBER_STEP) throw tooLarge(`there are ${this.#next - 1} rules`);
  }

  get infos(): ReadonlyMap<number, RuleInfo> {
    return this.#infos;
  }

  /** A number for several rules that had to be joined. They are of one action. */
  join(numbers: readonly number[]): number {
    const [first, ...others] = numbers.map((number) => this.#infos.get(number)).filter((info) => info !== undefined);
    const [lowest = 0] = numbers;
    if (first === undefined || this.#next >= NUMBER_STEP) throw tooLarge("too many rules had to be joined");
    const number = Math.floor(lowest / NUMBER_STEP) * NUMBER_STEP + this.#next++;
    this.#infos.set(number, { ...first, joined: others });
    return number;
  }

  expand(policy: AccessPolicy, direction: Direction): readonly FlatRule[] {
    const rules = policy[direction] ?? [];
    const there = this.#done.get(rules);
    if (there !== undefined) return there;
    const flat: FlatRule[] = [];
    for (const [index, rule] of rules.entries()) {
      const info: RuleInfo = { resource: policy, direction, index, source: rule.source, joined: [] };
      const place = (this.#places.get(policy)?.[direction] ?? 0) + index;
      for (const end of rule.ends.length === 0 ? [ANYTHING] : rule.ends)
        this.#expandEnd(end, rule, { info, place, flat });
    }
    this.#done.set(rules, flat);
    return flat;
  }

  #expandEnd(end: Destination, rule: PolicyRule, to: { info: RuleInfo; place: number; flat: FlatRule[] }): void {
    const service = end.service === undefined ? undefined : this.#options.resources.services.get(end.service);
    // A set with a service that is not there does not load.
    if (end.service !== undefined && service === undefined) throw new TypeError(`no service ${end.service}`);
    const action = actionOf(rule, service);
    const number = action * NUMBER_STEP + to.place;
    const peerSet = this.#options.peers.intern(action === ACTION.mutual ? this.#allowed(end) : end.peers);
    for (const { address, ports } of this.#targets(end, rule, service)) {
      this.#infos.set(number, to.info);
      const words = wordsOf(address.bytes);
      for (const { port, bits } of portPrefixes(ports)) {
        to.flat.push({ number, address, words, port, portBits: bits, action, peerSet });
      }
      if (to.flat.length > ABI.TABLE_RULES_MAX)
        throw tooLarge(`AccessPolicy ${to.info.resource.name} alone needs more`);
    }
  }

  /** A rule that names no peer means ours: who trusts another domain has not let all of it in. */
  #allowed({ peers }: Destination): readonly IdPattern[] {
    const { trustDomain, trustDomains } = this.#options.resources;
    const isFederated = peers.length === 0 && trustDomains.length > 0;
    return isFederated ? [{ text: `${trustDomain.id}/`, match: "prefix" }] : peers;
  }

  #targets(
    end: Destination,
    rule: PolicyRule,
    service: Service | undefined,
  ): { address: AddressPrefix; ports: readonly PortRange[] }[] {
    if (service === undefined) return [{ address: end.prefix ?? AddressPrefix.any, ports: rule.ports }];
    return service.addresses.flatMap((address) => {
      const ports = intersectPorts(address.ports, rule.ports);
      if (ports === undefined) return [];
      const { target } = address;
      const prefixes = "prefix" in target ? [target.prefix] : this.#resolve(nameOf(target), service, rule);
      return prefixes.map((prefix) => ({ address: prefix, ports }));
    });
  }

  #resolve(name: string, service: Service, rule: PolicyRule): AddressPrefix[] {
    const texts = this.#options.addresses.get(name) ?? [];
    const found = texts
      .map((text) => AddressPrefix.tryParse(text))
      .filter((prefix) => prefix !== undefined)
      .filter((prefix) => prefix.isSingle);
    if (found.length === 0) this.#warnUnresolved(name, service, rule);
    return found;
  }

  #warnUnresolved(name: string, service: Service, rule: PolicyRule): void {
    const effect = rule.action === "deny" ? "a rule that denies it stops nothing" : "no rule allows it";
    const key = `${service.name}\0${name}\0${effect}`;
    if (this.#unresolved.has(key)) return;
    this.#unresolved.add(key);
    const message = `${name} has no address now, so ${effect}`;
    const remedy = name.startsWith("spiffe:")
      ? "start the workload on a node of the fleet, or see riprap fleet status"
      : "correct the name, or see that this node can resolve it";
    this.#options.warnings.push({
      ...service.source,
      code: "service_unresolved",
      field: "spec.addresses",
      message,
      remedy,
    });
  }
}

/** What the addresses of a service are asked by: a DNS name, or the SPIFFE ID of a workload. */
export function nameOf(target: { readonly dnsName: string } | { readonly workload: SpiffeId }): string {
  return "dnsName" in target ? target.dnsName : target.workload.toString();
}

const ANYTHING: Destination = { service: undefined, prefix: undefined, peers: [] };

function actionOf(rule: PolicyRule, service: Service | undefined): number {
  if (rule.action === "deny") return ACTION.deny;
  const tls: TlsChoice = rule.tls ?? service?.tls ?? "mutual";
  return ACTION[tls];
}

function wordsOf(bytes: Uint8Array): FlatRule["words"] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  return [view.getUint32(0), view.getUint32(4), view.getUint32(8), view.getUint32(12)];
}

export function tooLarge(fact: string): RiprapError {
  const remedy = "use address prefixes and port ranges in place of lists, or fewer workloads in one policy";
  const bound = `the kernel holds ${ABI.TABLE_RULES_MAX} flat rules`;
  return new RiprapError("policy_too_large", `Cannot compile policies: ${fact}, and ${bound}; ${remedy}`);
}
