// loadResources(): which files are read, in what order, within what bounds; what the whole set is checked for.
import { afterAll, beforeEach, describe, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { FILE_BYTES_MAX } from "../../src/resource/read.ts";
import { listDnsNames, loadResources, type ResourceError } from "../../src/resource.ts";
import {
  accessPolicy,
  faultsOf,
  identity,
  loadDocuments,
  loadText,
  problemsOf,
  service,
  trustDomain,
} from "./sample.ts";

const root = mkdtempSync(join(tmpdir(), "riprap-rules-"));
let folder = root;
let count = 0;

beforeEach(() => {
  folder = join(root, String(count++));
  mkdirSync(folder);
});
afterAll(() => rmSync(root, { recursive: true, force: true }));

function write(name: string, ...documents: readonly unknown[]): string {
  const path = join(folder, name);
  writeFileSync(path, documents.map((document) => JSON.stringify(document)).join("\n---\n"));
  return path;
}

const load = (from: string | readonly string[] = folder) => loadResources(from, { trustDomain });
const web = (name: string, uid = 1) => identity(name, { workloadID: name, selectors: { "process:uid": uid } });

/** The example of the design page, as people of the neighbouring system write it. */
const RIPTIDES_EXAMPLE = `apiVersion: core.riptides.io/v1alpha1
kind: WorkloadIdentity
metadata: { name: weather-agent }
spec:
  scope: { agentGroup: { id: spiffe-mcp-demo-agent-group } }
  selectors:
    - process:uid: [501, 1001]
      process:name: [python]
      process:cmdline: python mcp_client.py
  workloadID: weather-agent
`;

describe("loadResources()", () => {
  test("loadResources() reads *.yaml and *.yml of a directory and nothing else", () => {
    write("b.yaml", web("b", 2));
    write("a.yml", web("a"));
    write("c.yaml.bak", web("c", 3));
    write(".hidden.yaml", web("d", 4));
    mkdirSync(join(folder, "sub"));
    writeFileSync(join(folder, "sub", "e.yaml"), "nonsense: [");
    expect(load().identities.map(({ name }) => name)).toEqual(["a", "b"]);
  });

  test("loadResources() follows a symbolic link and names the link in messages", () => {
    mkdirSync(join(folder, "sub"));
    writeFileSync(join(folder, "sub", "real"), JSON.stringify(web("a")));
    symlinkSync("sub/real", join(folder, "link.yaml"));
    expect(load().identities[0]?.source.file).toBe(join(folder, "link.yaml"));
  });

  test("loadResources() gives an empty set when the directory is not there", () => {
    expect(load(join(folder, "nowhere"))).toMatchObject({ identities: [], policies: [], warnings: [] });
  });

  test("loadResources() refuses what cannot be a rule file", () => {
    mkdirSync(join(folder, "dir.yaml"));
    symlinkSync("nowhere", join(folder, "gone.yaml"));
    Bun.spawnSync(["mkfifo", join(folder, "pipe.yaml")]);
    writeFileSync(join(folder, "latin.yaml"), Uint8Array.of(0x61, 0x3a, 0x20, 0xe9));
    writeFileSync(join(folder, "large.yaml"), "");
    truncateSync(join(folder, "large.yaml"), FILE_BYTES_MAX + 1);
    const problems = problemsOf(() => load());
    expect(problems.map(({ code, file }) => [code, file.slice(folder.length + 1)])).toEqual(
      ["dir", "gone", "large", "latin", "pipe"].map((name) => ["resource_unreadable", `${name}.yaml`]),
    );
  });

  test("loadResources() refuses a named file that is not there", () => {
    expect(problemsOf(() => load([join(folder, "nope.yaml")]))).toMatchObject([{ code: "resource_unreadable" }]);
  });

  test("loadResources() tells every fault of every file with its place", () => {
    write("a.yaml", identity("a", { workloadID: "/a", selectors: {} }));
    writeFileSync(
      join(folder, "b.yaml"),
      "apiVersion: riprap.io/v1\nkind: Service\nmetadata:\n  name: b\nspec:\n  adresses: []\n",
    );
    const problems = problemsOf(() => load());
    expect(
      problems.map(({ file, line, field, code }) => `${file.slice(folder.length + 1)}:${line} ${field} ${code}`),
    ).toEqual([
      "a.yaml:1 spec.workloadID id_invalid",
      "a.yaml:1 spec.selectors selector_never_matches",
      "b.yaml:6 spec.adresses field_unknown",
      "b.yaml:6 spec field_missing",
    ]);
    expect(problems[2]?.remedy).toBe("did you mean addresses?");
  });

  test("loadResources() loads the neighbouring system's WorkloadIdentity as it stands", () => {
    const [weather] = loadText(RIPTIDES_EXAMPLE).identities;
    expect(weather).toMatchObject({
      workloadId: "weather-agent",
      scope: { type: "group", id: "spiffe-mcp-demo-agent-group" },
    });
    expect(weather?.selectors[0]?.entries.map(({ label }) => label)).toEqual([
      "process:cmdline",
      "process:name",
      "process:uid",
    ]);
  });

  test("ResourceError names every fault in its message", () => {
    try {
      loadDocuments(identity("A", { workloadID: "a", selectors: {} }));
      throw new Error("it loaded");
    } catch (error) {
      const { code, message } = error as ResourceError;
      expect(code).toBe("resource_invalid");
      expect(message).toMatch(
        /^Cannot load resources:\nrules\.yaml:1:\d+: metadata\.name: .*\nrules\.yaml:1:\d+: spec\.selectors: /,
      );
    }
  });
});

describe("document", () => {
  const good = {
    apiVersion: "riprap.io/v1",
    kind: "WorkloadIdentity",
    metadata: { name: "a" },
    spec: { workloadID: "a", selectors: { "process:uid": 1 } },
  };

  test.each<[string, unknown, string[]]>([
    ["an unknown kind", { ...good, kind: "WorkloadIdentiy" }, ["kind: kind_unknown"]],
    ["a kind of a later version", { ...good, kind: "PostureBaseline" }, ["kind: kind_unsupported"]],
    ["a kind that every object has", { ...good, kind: "constructor" }, ["kind: kind_unknown"]],
    ["an unknown apiVersion", { ...good, apiVersion: "v1" }, ["apiVersion: api_version_unknown"]],
    [
      "a Service of the neighbour's apiVersion",
      {
        ...good,
        apiVersion: "core.riptides.io/v1alpha1",
        kind: "Service",
        spec: { addresses: [{ address: "10.0.0.1" }] },
      },
      ["apiVersion: api_version_unknown"],
    ],
    ["no kind", { ...good, kind: undefined }, [": field_missing"]],
    ["no metadata", { ...good, metadata: undefined }, [": field_missing"]],
    ["no name", { ...good, metadata: {} }, ["metadata: field_missing"]],
    ["a name that is a number", { ...good, metadata: { name: 7 } }, ["metadata.name: field_type"]],
    ["a name with a slash", { ...good, metadata: { name: "a/b" } }, ["metadata.name: name_invalid"]],
    ["a name of 254 letters", { ...good, metadata: { name: "a".repeat(254) } }, ["metadata.name: name_invalid"]],
    ["a name of null", { ...good, metadata: { name: null } }, ["metadata.name: field_empty"]],
    ["an unknown field", { ...good, status: {} }, ["status: field_unknown"]],
    [
      "a label that is a list",
      { ...good, metadata: { name: "a", labels: { x: [] } } },
      ["metadata.labels.x: field_type"],
    ],
    ["a spec that is a list", { ...good, spec: [] }, ["spec: field_type"]],
  ])("checkDocument() refuses %s", (_, document, faults) => {
    expect(faultsOf(document)).toEqual(faults);
  });
});

describe("the whole set", () => {
  test("checkSet() refuses two resources of one kind and name", () => {
    const problems = problemsOf(() => loadDocuments(web("a"), web("a", 2)));
    expect(problems).toMatchObject([
      { code: "name_twice", line: 3, message: 'WorkloadIdentity "a" is there already, at rules.yaml:1' },
    ]);
    expect(faultsOf(web("a"), service("a", { addresses: [{ address: "::1" }] }))).toEqual([]);
  });

  test("checkSet() refuses two identities with the same selectors, in whatever order they are written", () => {
    const one = identity("one", { workloadID: "one", selectors: [{ "process:uid": [1, 2], "process:name": "x" }] });
    const two = identity("two", {
      workloadID: "two",
      selectors: [{ "process:name": "y" }, { "process:name": ["x"], "process:uid": ["2", 1] }],
    });
    expect(faultsOf(one, two)).toEqual(["spec.selectors[1]: identity_ambiguous"]);
  });

  test("checkSet() takes two equal selectors when they give the same identity or belong to two nodes", () => {
    const on = (name: string, node: string) =>
      identity(name, { workloadID: name, selectors: { "process:uid": 1 }, scope: { node: { id: node } } });
    expect(faultsOf(on("a", "n1"), on("b", "n2"))).toEqual([]);
    expect(faultsOf(on("a", "n1"), on("b", "n1"))).toEqual(["spec.selectors: identity_ambiguous"]);
    const same = (name: string) => identity(name, { workloadID: "w", selectors: { "process:uid": 1 } });
    expect(faultsOf(same("a"), same("b"))).toEqual([]);
  });

  test("checkSet() warns when two identities overlap at the same rank, and only then", () => {
    const warnings = (a: unknown, b: unknown) =>
      loadDocuments(
        identity("a", { workloadID: "a", selectors: a }),
        identity("b", { workloadID: "b", selectors: b }),
      ).warnings.map(({ code }) => code);
    expect(warnings({ "process:uid": [1, 2] }, { "process:uid": [2, 3] })).toEqual(["identity_overlaps"]);
    expect(warnings({ "process:exe": "/usr/*" }, { "process:exe": "/usr/bin/a" })).toEqual(["identity_overlaps"]);
    expect(warnings({ "process:cmdline": "python" }, { "process:cmdline": "python a.py" })).toEqual([
      "identity_overlaps",
    ]);
    expect(warnings({ "process:cmdline": "python" }, { "process:cmdline": "python3 a.py" })).toEqual([]);
    expect(warnings({ "process:uid": 1 }, { "process:uid": 2 })).toEqual([]);
    expect(warnings({ "process:uid": 1 }, { "process:uid": 1, "process:name": "x" })).toEqual([]);
  });

  test("checkSet() refuses a rule for a service that is not there, or that has none of its ports", () => {
    const rule = (to: unknown, more = {}) => accessPolicy("p", { workloads: ["web"], egress: [{ to: [to], ...more }] });
    const db = service("db", { addresses: [{ address: "10.0.0.1", ports: [5432] }] });
    const plain = service("log", { addresses: [{ address: "10.0.0.2" }], tls: "plain" });
    expect(faultsOf(db, rule({ service: "dbs" }))).toEqual(["spec.egress[0].to[0].service: service_unknown"]);
    expect(faultsOf(db, rule({ service: "db" }, { ports: [80] }))).toEqual([
      "spec.egress[0].to[0].service: ports_empty",
    ]);
    expect(faultsOf(plain, rule({ service: "log", peer: "x" }))).toEqual([
      "spec.egress[0].to[0].service: rule_contradicts",
    ]);
    expect(faultsOf(plain, rule({ service: "log", peer: "x" }, { tls: "mutual" }))).toEqual([]);
  });

  test("checkSet() warns of a policy for an ID that no identity gives", () => {
    const warned = (workload: string) =>
      loadDocuments(
        identity("a", { workloadID: "team/[process:user]/x", selectors: { "process:uid": 1 } }),
        identity("b", { workloadID: "web.1", selectors: { "process:uid": 2 } }),
        accessPolicy("p", { workloads: [workload], egress: [] }),
      ).warnings.length;
    for (const workload of ["web.1", "team/me/x", "team/*", "*", "team/me/*"])
      expect([workload, warned(workload)]).toEqual([workload, 0]);
    for (const workload of ["web-1", "webx1", "team/me", "web.1/*", "other/*"])
      expect([workload, warned(workload)]).toEqual([workload, 1]);
  });

  test("listDnsNames() lists each name once, in lower case", () => {
    const addresses = [{ address: "B.test" }, { address: "a.test." }, { address: "10.0.0.1" }];
    const set = loadDocuments(service("s", { addresses }), service("t", { addresses }));
    expect(listDnsNames(set)).toEqual(["a.test", "b.test"]);
  });
});
