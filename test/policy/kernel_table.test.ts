// The compiled table before the module's own check and lookup of it (kernel/table*.c, built for user space).
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { MATCHES_MAX } from "../../src/policy/entry.ts";
import { TableReader } from "../../src/policy/reader.ts";
import { compilePolicy } from "../../src/policy.ts";
import { parseResources } from "../../src/resource.ts";
import { matchIdentities } from "../../src/selector.ts";
import { SpiffeId } from "../../src/spiffe_id.ts";
import { seeded } from "../abi/sample.ts";
import { identity, loadDocuments, trustDomain } from "../resource/sample.ts";
import { toNumber } from "./naive.ts";
import { ADDRESSES, bytesOf, IDS, PEERS, pick, REMOTE_PORTS, REMOTES, randomResources, some } from "./random.ts";

const HERE = import.meta.dir;
const KERNEL = join(HERE, "../../kernel");
const SOURCES = ["table.c", "table_build.c", "table_check.c"].map((name) => join(KERNEL, name));
const compiler = Bun.which("gcc") ?? "";
const folder = mkdtempSync(join(tmpdir(), "riprap-table-"));

if (compiler === "") process.stdout.write("skipped: the module's own look at a table needs gcc\n");

function build(name: string, sources: readonly string[]): void {
  const flags = [
    "-std=gnu11",
    "-O1",
    "-g",
    "-Wall",
    "-Wno-format",
    "-Wno-unused-function",
    "-fsanitize=address,undefined",
    "-fno-sanitize-recover",
  ];
  const { exitCode, stderr } = Bun.spawnSync([
    compiler,
    ...flags,
    `-I${folder}`,
    `-I${HERE}`,
    `-I${KERNEL}`,
    "-o",
    join(folder, name),
    join(HERE, `${name}.c`),
    ...sources,
  ]);
  if (exitCode !== 0) throw new Error(stderr.toString());
}

/** Every kernel header that the sources name becomes the shim; those that user space has too stay. */
function shimHeaders(): void {
  mkdirSync(join(folder, "linux"));
  const headers = ["device.h", "process.h", "table.h", "table_build.h", "frame.h", "identity.h"].map((name) =>
    join(KERNEL, name),
  );
  for (const file of [...SOURCES, ...headers]) {
    for (const [, name = ""] of readFileSync(file, "utf8").matchAll(/<linux\/(\w+\.h)>/g)) {
      if (name !== "errno.h" && name !== "types.h")
        writeFileSync(join(folder, "linux", name), '#include "kernel_shim.h"\n');
    }
  }
  // The end of kernel/trace.h asks for it, outside of any guard.
  mkdirSync(join(folder, "trace"));
  writeFileSync(join(folder, "trace", "define_trace.h"), "");
}

function check(table: Uint8Array): { ok: boolean; says: string } {
  const { exitCode, stdout } = Bun.spawnSync([join(folder, "check_table")], { stdin: table });
  return { ok: exitCode === 0, says: stdout.toString().trim() };
}

/** The module's answer to each question. */
function ask(table: Uint8Array, questions: readonly string[]): string[] {
  const path = join(folder, "table");
  writeFileSync(path, table);
  const stdin = Buffer.from(questions.map((question) => `${question}\n`).join(""));
  const { exitCode, stdout, stderr } = Bun.spawnSync([join(folder, "kernel_lookup"), path], { stdin });
  if (exitCode !== 0) throw new Error(`kernel_lookup: ${exitCode} ${stderr}`);
  return stdout.toString().trimEnd().split("\n");
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

test("MATCHES_MAX is the module's bound", () => {
  const limits = readFileSync(join(KERNEL, "limits.h"), "utf8");
  expect(limits).toMatch(new RegExp(`#define RIPRAP_MATCHES_MAX\\s+${MATCHES_MAX}\\b`));
});

describe.skipIf(compiler === "")("compilePolicy()", () => {
  beforeAll(() => {
    build("check_table", SOURCES.slice(2));
    shimHeaders();
    build("kernel_lookup", SOURCES);
  }, 120_000);
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

  test("verdict() and judgePeer() answer as the module does on random rules", () => {
    const random = seeded(0x7ab1e);
    for (let round = 0; round < 25; round++) {
      const resources = randomResources(random);
      const subjects = new Map(IDS.map((id, i) => [i + 1, SpiffeId.parse(id)]));
      const { table } = compilePolicy({ resources, trustDomain, subjects, addresses: ADDRESSES, generation: 1n });
      const reader = new TableReader(table);
      const questions: string[] = [];
      const answers: string[] = [];
      for (let i = 0; i < 200; i++) {
        const connection = {
          subject: 1 + random(IDS.length + 1), // one past the last: an identity that came before its table
          inbound: random(2) === 1,
          remote: bytesOf(toNumber(pick(random, REMOTES))),
          port: pick(random, REMOTE_PORTS),
        };
        const peer = pick(random, [...PEERS, "spiffe://other.test/web", "spiffe://edge.test/team/"]);
        const { mode, action, reason, rule, matches } = reader.verdict(connection);
        const judged = reader.judgePeer(connection, peer);
        const hex = Buffer.from(connection.remote).toString("hex");
        questions.push(`c ${connection.subject} ${Number(connection.inbound)} ${hex} ${connection.port} ${peer}`);
        answers.push(
          `${mode} ${action} ${reason} ${rule} ${matches.length} | ${Number(judged.isAllowed)} ${judged.isAllowed ? judged.rule : 0}`,
        );
      }
      expect(ask(table, questions)).toEqual(answers);
    }
  }, 60_000);

  test("deriveFilters() lets the module see every process that a selector matches", () => {
    const random = seeded(0xf117e5);
    const values = {
      uid: ["0", "5", "6"],
      name: ["a", "bb", "python"],
      exe: ["/bin/a", "/bin/b", "/opt/x/y"],
      arg: ["x", "y"],
    };
    let managed = 0;
    for (let round = 0; round < 40; round++) {
      const selector = () => ({
        ...(random(2) === 0 ? {} : { "process:uid": some(random, values.uid, 2) }),
        ...(random(2) === 0 ? {} : { "process:name": some(random, values.name, 2) }),
        ...(random(3) === 0
          ? {}
          : { "process:exe": some(random, [...values.exe, ...(random(6) === 0 ? ["/opt/*"] : [])], 2) }),
        "process:arg[1]": some(random, values.arg, 2),
      });
      const resources = loadDocuments(identity("i", { workloadID: "i", selectors: [selector(), selector()] }));
      const { table } = compilePolicy({
        resources,
        trustDomain,
        subjects: new Map(),
        addresses: new Map(),
        generation: 1n,
      });
      const processes = values.uid.flatMap((uid) =>
        values.name.flatMap((name) => values.exe.map((exe) => ({ uid, name, exe }))),
      );
      const seen = ask(
        table,
        processes.map(({ uid, name, exe }) => `f ${uid} ${name} ${exe}`),
      );
      for (const [i, { uid, name, exe }] of processes.entries()) {
        const canMatch = values.arg.some((arg) => {
          const labels = { "process:uid": uid, "process:name": name, "process:exe": exe, "process:arg[1]": arg };
          return (
            matchIdentities(new Map(Object.entries(labels).map(([label, value]) => [label, [value]])), resources)
              .length > 0
          );
        });
        if (canMatch) expect([uid, name, exe, seen[i]]).toEqual([uid, name, exe, "1"]);
        managed += seen[i] === "1" ? 1 : 0;
      }
    }
    // And keeps it from seeing all the others.
    expect(managed).toBeLessThan(40 * 27 * 0.8);
  }, 60_000);
});
