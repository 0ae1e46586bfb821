// The compiled table before the module's own check of it (kernel/table_check.c, built for user space).
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { compilePolicy } from "../../src/policy.ts";
import { parseResources } from "../../src/resource.ts";
import { SpiffeId, TrustDomain } from "../../src/spiffe_id.ts";

const trustDomain = TrustDomain.parse("edge.test");
const ROOT = join(import.meta.dir, "../..");
const compiler = Bun.which("gcc") ?? Bun.which("cc");
const folder = mkdtempSync(join(tmpdir(), "riprap-table-"));
const program = join(folder, "check_table");

if (compiler === null) process.stdout.write("skipped: the module's check of a table needs gcc\n");

function check(table: Uint8Array): { ok: boolean; says: string } {
  const { exitCode, stdout } = Bun.spawnSync([program], { stdin: table });
  return { ok: exitCode === 0, says: stdout.toString().trim() };
}

function compile(documents: readonly unknown[]): Uint8Array {
  const text = documents.map((document) => JSON.stringify(document)).join("\n---\n");
  const resources = parseResources([{ file: "rules.yaml", text }], { trustDomain });
  const subjects = new Map(
    ["web", "team/a", "team/b"].map((path, i) => [i + 1, SpiffeId.parse(`spiffe://edge.test/${path}`)]),
  );
  const addresses = new Map([["db.test", ["10.0.0.9", "2001:db8::9"]]]);
  return compilePolicy({ resources, trustDomain, subjects, addresses, generation: 5n }).table;
}

function resource(kind: string, name: string, spec: unknown): unknown {
  return { apiVersion: "riprap.io/v1", kind, metadata: { name }, spec };
}

describe.skipIf(compiler === null)("compilePolicy()", () => {
  beforeAll(() => {
    const sources = [join(import.meta.dir, "check_table.c"), join(ROOT, "kernel/table_check.c")];
    const built = Bun.spawnSync([
      compiler ?? "",
      "-O1",
      "-Wall",
      "-fsanitize=address,undefined",
      "-I",
      join(ROOT, "kernel"),
      "-o",
      program,
      ...sources,
    ]);
    if (built.exitCode !== 0) throw new Error(built.stderr.toString());
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  test("compilePolicy() gives a table that the module takes when there are no resources", () => {
    expect(check(compile([]))).toEqual({ ok: true, says: "3 0 0 0" });
  });

  test("compilePolicy() gives a table that the module takes when every kind of rule is there", () => {
    const documents = [
      resource("Service", "db", {
        addresses: [{ address: "db.test", ports: [5432, "6000-6100"] }, { address: "fd00::/8" }],
      }),
      resource("WorkloadIdentity", "web", {
        workloadID: "web",
        selectors: [{ "process:uid": [0, 7], "process:name": ["a", "zé"] }, { "process:exe": "/usr/bin/web" }],
      }),
      resource("AccessPolicy", "all", {
        workloads: ["*"],
        egress: [
          { to: [{ service: "db" }, { peer: ["team/*", "web", "team/a", "a.b/*"] }] },
          { to: [{ address: "10.0.0.0/8" }], ports: ["1-65535"], tls: "plain" },
          { to: [{ address: "10.1.0.0/16", peer: "db" }], action: "deny" },
        ],
        ingress: [
          { from: [{ peer: "spiffe://other.test/*" }], ports: ["80-90"] },
          { action: "deny", ports: [22] },
        ],
      }),
      resource("AccessPolicy", "same", { workloads: ["team/*"], egress: [{ to: [{ service: "db" }] }], ingress: [] }),
    ];
    const { ok, says } = check(compile(documents));
    expect([ok, says]).toEqual([true, expect.stringMatching(/^3 \d+ 5 5$/)]);
  });

  test("compilePolicy() gives a table that the module takes when many rules had to be joined", () => {
    const policies = Array.from({ length: 300 }, (_, i) =>
      resource("AccessPolicy", `p${i}`, {
        workloads: ["web"],
        ingress: [{ from: [{ peer: `client/${i}` }], ports: [443] }],
      }),
    );
    expect(check(compile(policies))).toEqual({ ok: true, says: "3 1 300 0" });
  });

  test("compilePolicy() gives a table that the module refuses when a byte of it is wrong", () => {
    const table = compile([
      resource("AccessPolicy", "p", { workloads: ["web"], egress: [{ to: [{ address: "10.0.0.0/8" }] }] }),
    ]);
    table[table.length - 12] = 99; // the direction of the only rule
    expect(check(table)).toEqual({ ok: false, says: "a rule is malformed" });
  });
});
