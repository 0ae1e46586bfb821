// Judges a connection straight from the resources, rule by rule, without a table: what the compiler is held against.

import type { PortRange } from "../../src/port_range.ts";
import type { AccessPolicy, Destination, PolicyRule, ResourceSet, Service } from "../../src/resource.ts";

export interface NaiveConnection {
  readonly id: string;
  readonly direction: "egress" | "ingress";
  /** 16 bytes as a number. */
  readonly remote: bigint;
  readonly port: number;
}

export interface NaiveMatch {
  readonly rule: string;
  readonly tls: "deny" | "mutual" | "passthrough" | "plain";
  readonly peers: readonly string[];
}

export interface NaiveVerdict {
  readonly mode: "none" | "observe" | "permissive" | "enforce";
  /** Most specific first; of the same place the safest first. */
  readonly matches: readonly NaiveMatch[];
}

const MODES = ["none", "observe", "permissive", "enforce"] as const;
const SAFETY = ["deny", "mutual", "passthrough", "plain"] as const;

export function judgeNaively(
  connection: NaiveConnection,
  resources: ResourceSet,
  addresses: ReadonlyMap<string, readonly string[]>,
): NaiveVerdict {
  const selecting = resources.policies.filter(
    (policy) =>
      policy[connection.direction] !== undefined &&
      policy.workloads.some(({ text, match }) => isId(text, match, connection.id)),
  );
  const mode = MODES.findLast((name) => selecting.some((policy) => policy.mode === name)) ?? "none";
  const found: (NaiveMatch & { readonly rank: readonly number[] })[] = [];
  for (const policy of selecting) found.push(...matchesOf(policy, { connection, resources, addresses }));
  found.sort((a, b) => compareRanks(a.rank, b.rank));
  return { mode, matches: found.map(({ rule, tls, peers }) => ({ rule, tls, peers })) };
}

/** What the verdict says of a peer: undefined while it is not asked for, else whether the connection may stand. */
export function allowsNaively(verdict: NaiveVerdict, peer: string): boolean {
  const takes = (match: NaiveMatch) => match.peers.length === 0 || match.peers.some((text) => isPattern(text, peer));
  if (verdict.matches.some((match) => match.tls === "deny" && takes(match))) return false;
  return verdict.matches.some((match) => match.tls === "mutual" && takes(match));
}

interface Ground {
  readonly connection: NaiveConnection;
  readonly resources: ResourceSet;
  readonly addresses: ReadonlyMap<string, readonly string[]>;
}

function matchesOf(
  policy: AccessPolicy,
  { connection, resources, addresses }: Ground,
): (NaiveMatch & { rank: number[] })[] {
  const found: (NaiveMatch & { rank: number[] })[] = [];
  for (const [index, rule] of (policy[connection.direction] ?? []).entries()) {
    const ends: readonly Destination[] =
      rule.ends.length > 0 ? rule.ends : [{ service: undefined, prefix: undefined, peers: [] }];
    for (const end of ends) {
      const service = end.service === undefined ? undefined : resources.services.get(end.service);
      const tls = rule.action === "deny" ? "deny" : (rule.tls ?? service?.tls ?? "mutual");
      for (const { prefix, ports } of placesOf(end, service, addresses)) {
        const bits = addressBits(prefix, connection.remote);
        const port = portBits(ports, rule, connection.port);
        if (bits === undefined || port === undefined) continue;
        const named = end.peers.map((pattern) => pattern.text + (pattern.match === "prefix" ? "*" : ""));
        const isOurs = named.length === 0 && tls === "mutual" && resources.trustDomains.length > 0;
        const peers = isOurs ? [`${resources.trustDomain.id}/*`] : named;
        const rank = [-bits, -port, SAFETY.indexOf(tls)];
        found.push({ rule: `${policy.name}#${connection.direction}[${index}]`, tls, peers, rank });
      }
    }
  }
  return found;
}

function placesOf(
  end: Destination,
  service: Service | undefined,
  addresses: ReadonlyMap<string, readonly string[]>,
): { prefix: string; ports: readonly PortRange[] }[] {
  if (service === undefined) return [{ prefix: end.prefix === undefined ? "any" : String(end.prefix), ports: [] }];
  return service.addresses.flatMap(({ target, ports }) => {
    const texts =
      "prefix" in target
        ? [String(target.prefix)]
        : (addresses.get("dnsName" in target ? target.dnsName : String(target.workload)) ?? []);
    return texts.map((prefix) => ({ prefix, ports }));
  });
}

/** How many bits of the remote address the prefix fixes, of 128; undefined when it does not match. */
function addressBits(prefix: string, remote: bigint): number | undefined {
  if (prefix === "any") return 0;
  const [host = "", length] = prefix.split("/");
  const isV4 = !host.includes(":");
  const bits = length === undefined ? 128 : Number(length) + (isV4 ? 96 : 0);
  const shift = BigInt(128 - bits);
  return toNumber(host) >> shift === remote >> shift ? bits : undefined;
}

/** An address as one number. */
export function toNumber(text: string): bigint {
  if (!text.includes(":")) {
    return text.split(".").reduce((sum, part) => (sum << 8n) | BigInt(part), 0xffffn);
  }
  const [head = "", tail = ""] = text.includes("::") ? text.split("::") : [text, ""];
  const left = head.split(":").filter((word) => word !== "");
  const right = tail.split(":").filter((word) => word !== "");
  const words = [...left, ...new Array<string>(8 - left.length - right.length).fill("0"), ...right];
  return words.reduce((sum, word) => (sum << 16n) | BigInt(`0x${word}`), 0n);
}

/** The size of the largest aligned block of ports round this one that both lists allow, as fixed bits; undefined: none. */
function portBits(ofService: readonly PortRange[], rule: PolicyRule, port: number): number | undefined {
  for (let bits = 0; bits <= 16; bits++) {
    const size = 2 ** (16 - bits);
    const from = Math.floor(port / size) * size;
    if (isWithin(ofService, from, from + size - 1) && isWithin(rule.ports, from, from + size - 1)) return bits;
  }
  return undefined;
}

/** Port 0 is no port, so a range from 1 takes it along. */
function isWithin(ranges: readonly PortRange[], from: number, to: number): boolean {
  if (ranges.length === 0) return true;
  return ranges.some((range) => range.from <= Math.max(from, Math.min(1, to)) && to <= range.to);
}

function isPattern(text: string, id: string): boolean {
  return text.endsWith("*") ? isId(text.slice(0, -1), "prefix", id) : text === id;
}

function isId(text: string, match: "exact" | "prefix", id: string): boolean {
  return match === "exact" ? id === text : id !== text && id.startsWith(text);
}

function compareRanks(a: readonly number[], b: readonly number[]): number {
  for (const [i, x] of a.entries()) if (x !== b[i]) return x - (b[i] ?? 0);
  return 0;
}
