// What the compiled table says in the cases that the documentation promises; bounds; size and speed.
import { describe, expect, test } from "bun:test";
import { ACTION, FILTER_HAS, MODE, REASON } from "../../src/abi.ts";
import { TableReader } from "../../src/policy/reader.ts";
import { type CompiledPolicy, compilePolicy, connectionAddress, describeRule, lookup } from "../../src/policy.ts";
import { SpiffeId } from "../../src/spiffe_id.ts";
import { accessPolicy, identity, loadDocuments, service, trustDomain } from "../resource/sample.ts";

const WEB = SpiffeId.parse("spiffe://edge.test/web");

function compile(documents: readonly unknown[], addresses: Record<string, readonly string[]> = {}): CompiledPolicy {
  const resources = loadDocuments(...documents);
  const subjects = new Map([[1, WEB]]);
  return compilePolicy({
    resources,
    trustDomain,
    subjects,
    addresses: new Map(Object.entries(addresses)),
    generation: 9n,
  });
}

function ask({ table }: CompiledPolicy, remote: string, port: number, inbound = false) {
  return lookup(table, { subject: 1, inbound, remote: connectionAddress(remote), port });
}

function nameOf({ rules }: CompiledPolicy, number: number, peer?: string): string | undefined {
  const rule = rules.get(number);
  return rule && describeRule(rule, peer);
}

describe("compilePolicy()", () => {
  test("compilePolicy() leaves a direction plain when no policy speaks of it", () => {
    const compiled = compile([accessPolicy("p", { workloads: ["web"], egress: [] })]);
    expect(ask(compiled, "10.0.0.1", 80)).toMatchObject({
      mode: MODE.enforce,
      action: ACTION.deny,
      reason: REASON.noRule,
    });
    expect(ask(compiled, "10.0.0.1", 80, true)).toMatchObject({ mode: MODE.none, reason: REASON.noPolicy });
  });

  test("compilePolicy() allows what one of several policies allows", () => {
    const rule = (address: string) => ({ workloads: ["web"], egress: [{ to: [{ address }] }] });
    const compiled = compile([accessPolicy("a", rule("10.0.0.0/8")), accessPolicy("b", rule("192.168.0.1"))]);
    expect(ask(compiled, "10.7.7.7", 1).action).toBe(ACTION.mutual);
    expect(ask(compiled, "192.168.0.1", 1).action).toBe(ACTION.mutual);
    expect(ask(compiled, "192.168.0.2", 1).reason).toBe(REASON.noRule);
  });

  test("compilePolicy() lets deny beat a more specific allow of another policy", () => {
    const compiled = compile([
      accessPolicy("a", { workloads: ["web"], egress: [{ to: [{ address: "10.1.2.3" }], ports: [443] }] }),
      accessPolicy("b", { workloads: ["*"], egress: [{ to: [{ address: "10.0.0.0/8" }], action: "deny" }] }),
    ]);
    const verdict = ask(compiled, "10.1.2.3", 443);
    expect(verdict).toMatchObject({ action: ACTION.deny, reason: REASON.rule, matches: [] });
    expect(nameOf(compiled, verdict.rule)).toBe("AccessPolicy/b#egress[0]");
  });

  test("compilePolicy() takes the strictest mode and says so when policies differ", () => {
    const compiled = compile([
      accessPolicy("a", { workloads: ["web"], mode: "observe", egress: [{}] }),
      accessPolicy("b", { workloads: ["*"], mode: "enforce", egress: [] }),
    ]);
    expect(ask(compiled, "10.0.0.1", 1).mode).toBe(MODE.enforce);
    expect(compiled.warnings).toMatchObject([{ code: "mode_overruled", field: "spec.mode" }]);
  });

  test("compilePolicy() warns once of a mode without effect, however many identities it selects", () => {
    const resources = loadDocuments(
      accessPolicy("a", { workloads: ["*"], mode: "observe", egress: [{}] }),
      accessPolicy("b", { workloads: ["*"], egress: [] }),
    );
    const subjects = new Map(["x", "y", "z"].map((path, i) => [i + 1, SpiffeId.parse(`spiffe://edge.test/${path}`)]));
    const { warnings } = compilePolicy({ resources, trustDomain, subjects, addresses: new Map(), generation: 1n });
    expect(warnings).toHaveLength(1);
  });

  test("compilePolicy() takes the longest prefix, then the narrowest ports, then the safest TLS", () => {
    const compiled = compile([
      accessPolicy("p", {
        workloads: ["web"],
        egress: [
          { to: [{ address: "10.0.0.0/8" }], tls: "plain" },
          { to: [{ address: "10.1.0.0/16" }], tls: "passthrough" },
          { to: [{ address: "10.0.0.0/8" }], ports: [443], tls: "passthrough" },
          { to: [{ address: "10.0.0.0/8" }], ports: [443], tls: "mutual" },
        ],
      }),
    ]);
    expect(ask(compiled, "10.9.9.9", 80).action).toBe(ACTION.plain);
    expect(ask(compiled, "10.1.9.9", 443).action).toBe(ACTION.passthrough);
    expect(ask(compiled, "10.9.9.9", 443).action).toBe(ACTION.mutual);
  });

  test("judgePeer() takes the peers of every matching mutual rule and of none other", () => {
    const compiled = compile([
      accessPolicy("p", {
        workloads: ["web"],
        egress: [
          { to: [{ address: "10.0.0.0/8", peer: "db" }] },
          { to: [{ peer: "team/*" }] },
          { to: [{ address: "0.0.0.0/0" }], tls: "plain" },
          { to: [{ peer: "team/bad" }], action: "deny" },
        ],
      }),
    ]);
    const reader = new TableReader(compiled.table);
    const judge = (path: string) =>
      reader.judgePeer(
        { subject: 1, inbound: false, remote: connectionAddress("10.0.0.1"), port: 1 },
        `spiffe://edge.test/${path}`,
      ).isAllowed;
    expect(["db", "team/a", "team/a/b"].map(judge)).toEqual([true, true, true]);
    expect(["team", "teams/a", "web", "dbx", "team/bad", "team/"].map(judge)).toEqual([
      false,
      false,
      false,
      false,
      false,
      false,
    ]);
  });

  test("compilePolicy() keeps IPv4 and IPv6 apart when a prefix names one family", () => {
    const compiled = compile([
      accessPolicy("p", {
        workloads: ["web"],
        egress: [{ to: [{ address: "0.0.0.0/0" }] }, { to: [{ address: "fd00::/8" }] }],
      }),
    ]);
    const actions = ["1.2.3.4", "::ffff:1.2.3.4", "fd00::1", "::1", "2001:db8::1"].map(
      (remote) => ask(compiled, remote, 1).action,
    );
    expect(actions).toEqual([ACTION.mutual, ACTION.mutual, ACTION.mutual, ACTION.deny, ACTION.deny]);
  });

  test("compilePolicy() matches every port of a range and no other", () => {
    const compiled = compile([
      accessPolicy("p", { workloads: ["web"], egress: [{ ports: ["1-1023", "8000-8099", 65535] }] }),
    ]);
    const reader = new TableReader(compiled.table);
    const remote = connectionAddress("10.0.0.1");
    const allowed = Array.from({ length: 65535 }, (_, i) => i + 1).filter(
      (port) => reader.verdict({ subject: 1, inbound: false, remote, port }).action !== ACTION.deny,
    );
    expect([allowed.length, allowed[0], allowed[1022], allowed[1023], allowed[1122], allowed[1123]]).toEqual([
      1124, 1, 1023, 8000, 8099, 65535,
    ]);
  });

  test("compilePolicy() uses the addresses at which a service's workload runs now", () => {
    const documents = [
      service("db", { addresses: [{ workload: "db/orders", ports: [5432] }] }),
      accessPolicy("p", { workloads: ["web"], egress: [{ to: [{ service: "db", peer: "db/orders" }] }] }),
    ];
    const found = compile(documents, { "spiffe://edge.test/db/orders": ["10.0.0.5"] });
    expect(ask(found, "10.0.0.5", 5432).action).toBe(ACTION.mutual);
    expect(ask(found, "10.0.0.6", 5432).action).toBe(ACTION.deny);
    expect(compile(documents).warnings).toMatchObject([{ code: "service_unresolved" }]);
  });

  test("compilePolicy() uses the addresses that a service's name has now", () => {
    const documents = [
      service("db", { addresses: [{ address: "DB.test.", ports: [5432] }], tls: "plain" }),
      accessPolicy("p", { workloads: ["web"], egress: [{ to: [{ service: "db" }] }] }),
    ];
    const resolved = compile(documents, { "db.test": ["10.0.0.5", "fd00::5"] });
    expect([ask(resolved, "10.0.0.5", 5432).action, ask(resolved, "fd00::5", 5432).action]).toEqual([
      ACTION.plain,
      ACTION.plain,
    ]);
    expect(ask(resolved, "10.0.0.5", 5433).action).toBe(ACTION.deny);
    const unresolved = compile(documents);
    expect(ask(unresolved, "10.0.0.5", 5432).reason).toBe(REASON.noRule);
    expect(unresolved.warnings).toMatchObject([{ code: "service_unresolved" }]);
    expect(compile(documents, { "db.test": ["10.0.0.0/8", "nonsense"] }).warnings).toHaveLength(1);
    const denied = accessPolicy("d", { workloads: ["web"], egress: [{ to: [{ service: "db" }], action: "deny" }] });
    expect(compile([...documents, denied]).warnings.map(({ message }) => message.split(", so ")[1])).toEqual([
      "a rule that denies it stops nothing",
      "no rule allows it",
    ]);
  });

  test("compilePolicy() joins rules and can still name the one that is meant when 300 peers may come to one port", () => {
    const policies = Array.from({ length: 300 }, (_, i) =>
      accessPolicy(`p${i}`, { workloads: ["web"], ingress: [{ from: [{ peer: `client/${i}` }], ports: [443] }] }),
    );
    const compiled = compile(policies);
    const reader = new TableReader(compiled.table);
    const connection = { subject: 1, inbound: true, remote: connectionAddress("10.0.0.1"), port: 443 };
    expect(reader.verdict(connection).matches).toHaveLength(1);
    const { isAllowed, rule } = reader.judgePeer(connection, "spiffe://edge.test/client/217");
    expect(isAllowed).toBe(true);
    expect(nameOf(compiled, rule, "spiffe://edge.test/client/217")).toBe("AccessPolicy/p217#ingress[0]");
    expect(nameOf(compiled, rule)).toBe("AccessPolicy/p0#ingress[0] or 299 more");
    expect(reader.judgePeer(connection, "spiffe://edge.test/client/300").isAllowed).toBe(false);
  });

  test("compilePolicy() refuses rules that the kernel would have to look up in too many ways", () => {
    const egress = Array.from({ length: 5 }, (_, i) => ({
      to: [{ address: `10.0.0.0/${8 + i}` }],
      ports: ["3-65534"],
    }));
    expect(() => compile([accessPolicy("p", { workloads: ["web"], egress })])).toThrow(
      expect.objectContaining({
        code: "policy_too_complex",
        message: expect.stringContaining("spiffe://edge.test/web"),
      }),
    );
  });

  test("compilePolicy() refuses more rules than the kernel holds", () => {
    const resources = loadDocuments(
      accessPolicy("p", {
        workloads: ["*"],
        egress: Array.from({ length: 600 }, (_, i) => ({ to: [{ address: `10.0.${i >> 8}.${i & 255}` }] })),
      }),
    );
    const subjects = new Map(
      Array.from({ length: 500 }, (_, i) => [i + 1, SpiffeId.parse(`spiffe://edge.test/w/${i}`)]),
    );
    expect(() => compilePolicy({ resources, trustDomain, subjects, addresses: new Map(), generation: 1n })).toThrow(
      expect.objectContaining({ code: "policy_too_large" }),
    );
  }, 30_000);

  test("compilePolicy() compiles 100,000 rules within 2 seconds of processor time", () => {
    const to = Array.from({ length: 100 }, (_, i) => ({ address: `10.0.${i}.0/24` }));
    const resources = loadDocuments(accessPolicy("p", { workloads: ["*"], egress: [{ to, ports: [443] }] }));
    const subjects = new Map(
      Array.from({ length: 1000 }, (_, i) => [i + 1, SpiffeId.parse(`spiffe://edge.test/w/${i}`)]),
    );
    const start = process.cpuUsage(); // wall time would measure what else the machine does
    const { table } = compilePolicy({ resources, trustDomain, subjects, addresses: new Map(), generation: 1n });
    const { user, system } = process.cpuUsage(start);
    expect((user + system) / 1000).toBeLessThan(2000);
    expect(table.length).toBeGreaterThan(100_000 * 40);
  }, 30_000);

  test("compilePolicy() gives the same bytes whatever the order of the documents", () => {
    const documents = [
      accessPolicy("a", { workloads: ["web"], egress: [{ to: [{ peer: ["x", "y"] }] }] }),
      accessPolicy("b", { workloads: ["*"], ingress: [{ from: [{ peer: ["y", "x"] }] }] }),
      service("s", { addresses: [{ address: "10.0.0.1" }] }),
      identity("i", { workloadID: "web", selectors: { "process:uid": [3, 1] } }),
    ];
    expect(compile(documents).table).toEqual(compile(documents.toReversed()).table);
  });
});

describe("filters of the table", () => {
  const filters = (...selectors: unknown[]) =>
    new TableReader(compile([identity("i", { workloadID: "web", selectors })]).table).filters.map(
      ({ has, uid, name, exe }) => ({ has, uid, name, exe }),
    );

  test("deriveFilters() gives none when nothing can be selected", () => {
    expect(new TableReader(compile([]).table).filters).toHaveLength(0);
  });

  test("deriveFilters() names every combination of user, name and executable", () => {
    const all = FILTER_HAS.uid | FILTER_HAS.name | FILTER_HAS.exe;
    expect(
      filters({ "process:uid": [5, 6], "process:name": "a", "process:exe": "/bin/a", "process:arg[1]": "x" }),
    ).toEqual([
      { has: all, uid: 5, name: "a", exe: "/bin/a" },
      { has: all, uid: 6, name: "a", exe: "/bin/a" },
    ]);
  });

  test("deriveFilters() matches all when one selector says nothing that the kernel knows", () => {
    const all = [{ has: 0, uid: 0, name: "", exe: "" }];
    expect(filters({ "process:uid": 5 }, { "systemd:unit": "a.service" })).toEqual(all);
    expect(filters({ "process:exe": "/opt/app/*" })).toEqual(all);
  });

  test("deriveFilters() drops a fact rather than a process when the combinations are too many", () => {
    const uids = Array.from({ length: 200 }, (_, i) => i);
    const names = Array.from({ length: 30 }, (_, i) => `n${i}`);
    const found = filters({ "process:uid": uids, "process:name": names });
    expect([found.length, found.every(({ has }) => has === FILTER_HAS.uid)]).toEqual([200, true]);
  });
});
