// Random rules for the compiler, the naive judge and the module's lookup to agree on. Seeded: the same run every time.
import { parseResources, type ResourceSet } from "../../src/resource.ts";
import { trustDomain } from "../resource/sample.ts";

export const IDS = ["web", "team/a", "team/b", "team/sub/c", "db", "teamster"].map(
  (path) => `spiffe://edge.test/${path}`,
);
const PATTERNS = ["web", "team/a", "team/*", "team/sub/*", "*", "db", "spiffe://edge.test/team/b"];
/** Peers may be of another trust domain, which one set in two trusts. */
export const PEERS = [...IDS, "spiffe://partner.test/web", "spiffe://partner.test/team/a"];
const PEER_PATTERNS = [...PATTERNS, "spiffe://partner.test/*", "spiffe://partner.test/team/a"];
const PARTNER = {
  apiVersion: "riprap.io/v1",
  kind: "TrustDomain",
  metadata: { name: "partner" },
  spec: { trustDomain: "partner.test" },
};
const PREFIXES = [
  "10.0.0.0/8",
  "10.1.0.0/16",
  "10.1.2.0/24",
  "10.1.2.3",
  "10.1.2.2/31",
  "0.0.0.0/0",
  "2000::/3",
  "fd00::/8",
  "fd00:1::1",
  "::1",
];
export const REMOTES = [
  "10.1.2.3",
  "10.1.2.2",
  "10.1.9.9",
  "10.9.9.9",
  "192.0.2.1",
  "fd00:1::1",
  "fd00:1::2",
  "2001:db8::1",
  "::1",
  "fe80::1",
];
const PORTS = ["1-1023", "80", "443", "8000-8099", "5432", "1-65535", "8080-8081", "1024-65535", "79-81", "65535"];
export const REMOTE_PORTS = [1, 79, 80, 81, 82, 443, 1023, 1024, 5432, 8000, 8050, 8080, 8081, 8099, 8100, 65535];
export const ADDRESSES = new Map([
  ["one.test", ["10.1.2.3"]],
  ["two.test", ["10.9.9.9", "fd00:1::1"]],
]);

export type Random = (below: number) => number;

export function pick<T>(random: Random, from: readonly T[]): T {
  return from[random(from.length)] as T;
}

export function some<T>(random: Random, from: readonly T[], most: number): T[] {
  return [...new Set(Array.from({ length: 1 + random(most) }, () => pick(random, from)))];
}

function randomService(random: Random, name: string): unknown {
  const addresses = some(random, [...PREFIXES, "one.test", "two.test", "gone.test"], 3).map((address) => ({
    address,
    ...(random(2) === 0 ? {} : { ports: [...some(random, PORTS, 2), "443"] }),
  }));
  const tls = pick(random, ["mutual", "passthrough", "plain"]);
  return { apiVersion: "riprap.io/v1", kind: "Service", metadata: { name }, spec: { addresses, tls } };
}

function randomRule(random: Random, direction: "egress" | "ingress"): unknown {
  const isDeny = random(6) === 0;
  const end = () => {
    const peer = random(3) === 0 ? { peer: some(random, PEER_PATTERNS, 2) } : {};
    if (direction === "egress" && random(3) === 0) return { service: pick(random, ["s0", "s1"]) };
    return random(4) === 0 ? { peer: some(random, PEER_PATTERNS, 2) } : { address: pick(random, PREFIXES), ...peer };
  };
  const ends = random(6) === 0 ? undefined : Array.from({ length: 1 + random(3) }, end);
  const hasPeer = ends?.some((one) => "peer" in one) === true;
  return {
    ...(ends === undefined ? {} : { [direction === "egress" ? "to" : "from"]: ends }),
    ...(random(2) === 0 ? {} : { ports: [...some(random, PORTS, 3), "443"] }),
    ...(isDeny ? { action: "deny" } : {}),
    ...(isDeny || hasPeer || random(2) === 0 ? {} : { tls: pick(random, ["mutual", "passthrough", "plain"]) }),
  };
}

function randomPolicy(random: Random, name: string): unknown {
  const rules = (direction: "egress" | "ingress") =>
    Array.from({ length: random(5) }, () => randomRule(random, direction));
  const side = random(3);
  return {
    apiVersion: "riprap.io/v1",
    kind: "AccessPolicy",
    metadata: { name },
    spec: {
      workloads: some(random, PATTERNS, 2),
      mode: pick(random, ["enforce", "permissive", "observe"]),
      ...(side !== 1 ? { egress: rules("egress") } : {}),
      ...(side !== 0 ? { ingress: rules("ingress") } : {}),
    },
  };
}

export function randomResources(random: Random): ResourceSet {
  const documents = [randomService(random, "s0"), randomService(random, "s1")];
  if (random(2) === 0) documents.push(PARTNER);
  const policies = 1 + random(5);
  for (let i = 0; i < policies; i++) documents.push(randomPolicy(random, `p${i}`));
  // JSON is YAML.
  const text = documents.map((document) => JSON.stringify(document)).join("\n---\n");
  return parseResources([{ file: "fuzz.yaml", text }], { trustDomain });
}

/** The 16 bytes of an address as a number. */
export function bytesOf(remote: bigint): Uint8Array {
  return Uint8Array.from({ length: 16 }, (_, i) => Number((remote >> BigInt(8 * (15 - i))) & 0xffn));
}
