// The compiler and the kernel's lookup against a naive judge, on random rules and random connections.
import { describe, expect, test } from "bun:test";
import { ACTION, MODE } from "../../src/abi.ts";
import { TableReader } from "../../src/policy/reader.ts";
import { compilePolicy, describeRule } from "../../src/policy.ts";
import { parseResources, type ResourceSet } from "../../src/resource.ts";
import { SpiffeId, TrustDomain } from "../../src/spiffe_id.ts";
import { seeded } from "../abi/sample.ts";
import { allowsNaively, judgeNaively, toNumber } from "./naive.ts";

const trustDomain = TrustDomain.parse("edge.test");
const IDS = ["web", "team/a", "team/b", "team/sub/c", "db", "teamster"].map((path) => `spiffe://edge.test/${path}`);
const PATTERNS = ["web", "team/a", "team/*", "team/sub/*", "*", "db", "spiffe://edge.test/team/b"];
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
const REMOTES = [
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
const REMOTE_PORTS = [1, 79, 80, 81, 82, 443, 1023, 1024, 5432, 8000, 8050, 8080, 8081, 8099, 8100, 65535];
const ADDRESSES = new Map([
  ["one.test", ["10.1.2.3"]],
  ["two.test", ["10.9.9.9", "fd00:1::1"]],
]);

type Random = (below: number) => number;

function pick<T>(random: Random, from: readonly T[]): T {
  return from[random(from.length)] as T;
}

function some<T>(random: Random, from: readonly T[], most: number): T[] {
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
    const peer = random(3) === 0 ? { peer: some(random, PATTERNS, 2) } : {};
    if (direction === "egress" && random(3) === 0) return { service: pick(random, ["s0", "s1"]) };
    return random(4) === 0 ? { peer: some(random, PATTERNS, 2) } : { address: pick(random, PREFIXES), ...peer };
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

function randomResources(random: Random): ResourceSet {
  const documents = [randomService(random, "s0"), randomService(random, "s1")];
  const policies = 1 + random(5);
  for (let i = 0; i < policies; i++) documents.push(randomPolicy(random, `p${i}`));
  // JSON is YAML.
  const text = documents.map((document) => JSON.stringify(document)).join("\n---\n");
  return parseResources([{ file: "fuzz.yaml", text }], { trustDomain });
}

function bytesOf(remote: bigint): Uint8Array {
  return Uint8Array.from({ length: 16 }, (_, i) => Number((remote >> BigInt(8 * (15 - i))) & 0xffn));
}

describe("compilePolicy()", () => {
  test("agrees with a naive judge of the resources on random connections", () => {
    const random = seeded(0x12ab34);
    const outcomes = new Map<string, number>();
    for (let round = 0; round < 150; round++) {
      const resources = randomResources(random);
      const subjects = new Map(IDS.map((id, i) => [i + 1, SpiffeId.parse(id)]));
      const compiled = compilePolicy({ resources, trustDomain, subjects, addresses: ADDRESSES, generation: 1n });
      const reader = new TableReader(compiled.table);
      for (let i = 0; i < 60; i++) {
        const subject = 1 + random(IDS.length);
        const direction = pick(random, ["egress", "ingress"] as const);
        const connection = {
          id: IDS[subject - 1] ?? "",
          direction,
          remote: toNumber(pick(random, REMOTES)),
          port: pick(random, REMOTE_PORTS),
        };
        const query = {
          subject,
          inbound: direction === "ingress",
          remote: bytesOf(connection.remote),
          port: connection.port,
        };
        const naive = judgeNaively(connection, resources, ADDRESSES);
        const verdict = reader.verdict(query);
        const peer = pick(random, IDS);
        const denial = naive.matches.find((match) => match.tls === "deny" && match.peers.length === 0);
        const allow = naive.matches.find((match) => match.tls !== "deny");
        const wanted = naive.mode === "none" || denial !== undefined || allow === undefined ? "deny" : allow.tls;
        const ruling = naive.mode === "none" ? undefined : (denial ?? allow);
        const named = compiled.rules.get(verdict.rule);
        const seen = {
          rule: named && describeRule(named),
          mode: verdict.mode,
          action: verdict.action,
          peer: reader.judgePeer(query, peer).isAllowed,
        };
        const expected = {
          rule: ruling && `AccessPolicy/${ruling.rule}`,
          mode: MODE[naive.mode],
          action: ACTION[wanted],
          peer: naive.mode !== "none" && allowsNaively(naive, peer),
        };
        outcomes.set(
          `${naive.mode} ${wanted} ${expected.peer}`,
          (outcomes.get(`${naive.mode} ${wanted} ${expected.peer}`) ?? 0) + 1,
        );
        if (!Bun.deepEquals(seen, expected)) {
          throw new Error(
            `${JSON.stringify({ round, i, peer, ...connection, remote: connection.remote.toString(16), seen, expected, naive })}`,
          );
        }
      }
    }
    // The fuzz run is worth something only if it reached every kind of outcome.
    for (const outcome of [
      "none deny false",
      "enforce deny false",
      "enforce mutual true",
      "enforce mutual false",
      "enforce plain false",
      "observe passthrough false",
    ]) {
      expect([outcome, (outcomes.get(outcome) ?? 0) > 10]).toEqual([outcome, true]);
    }
  });
});
