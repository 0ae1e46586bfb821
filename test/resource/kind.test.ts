// Each kind's fields: what is taken, what is refused and under which name.
import { describe, expect, test } from "bun:test";
import { accessPolicy, faultsOf, identity, loadDocuments, service } from "./sample.ts";

const SELECTED = { "process:uid": 1 };

describe("kind WorkloadIdentity", () => {
  const faults = (spec: Record<string, unknown>) =>
    faultsOf(identity("a", { workloadID: "a", selectors: SELECTED, ...spec }));

  test.each([
    "web",
    "team/agent-1",
    "a.b/c_d/E",
    "u[process:uid]",
    "[process:arg[12]]/x",
    "[k8s:pod:namespace]/[node:name]",
    "spiffe://edge.test/web",
    "spiffe://edge.test/[process:user]",
    `${"a/".repeat(1000)}b`,
  ])("checkWorkloadId() takes %j", (workloadID) => {
    expect(faults({ workloadID })).toEqual([]);
  });

  test.each([
    ["", "field_empty"],
    ["/web", "id_invalid"],
    ["web/", "id_invalid"],
    ["a//b", "id_invalid"],
    ["a/../b", "id_invalid"],
    ["./a", "id_invalid"],
    ["a b", "id_invalid"],
    ["a%2fb", "id_invalid"],
    ["é", "id_invalid"],
    ["a?b", "id_invalid"],
    ["[process:uid", "id_invalid"],
    ["process:uid]", "id_invalid"],
    ["[]", "id_invalid"],
    ["[[process:uid]]", "id_invalid"],
    ["[process:uids]", "label_unknown"],
    ["[process:exe]", "id_invalid"],
    ["[process:cmdline]", "id_invalid"],
    ["spiffe://other.test/web", "id_outside_trust_domain"],
    ["spiffe://edge.test", "id_outside_trust_domain"],
    ["spiffe://edge.test.evil/web", "id_outside_trust_domain"],
    ["spiffe://Edge.test/web", "id_outside_trust_domain"],
    ["spiffe:web", "id_outside_trust_domain"],
    ["spiffe://edge.test/", "id_invalid"],
    ["a/".repeat(1100), "id_invalid"],
    ["riprap/bundle-endpoint", "id_reserved"],
    ["spiffe://edge.test/riprap", "id_reserved"],
    ["riprap/[process:uid]", "id_reserved"],
  ])("checkWorkloadId() refuses %j", (workloadID, code) => {
    expect(faults({ workloadID })).toEqual([`spec.workloadID: ${code}`]);
  });

  test.each<[string, unknown, string]>([
    ["an empty map", {}, ": selector_never_matches"],
    ["an empty list of maps", [], ": selector_never_matches"],
    ["an empty map in a list", [SELECTED, {}], "[1]: selector_never_matches"],
    ["a text", "process:uid", ": field_type"],
    ["an empty list of values", { "process:uid": [] }, ".process:uid: selector_never_matches"],
    ["no value", { "process:uid": null }, ".process:uid: field_type"],
    ["a map as a value", { "process:uid": { a: 1 } }, ".process:uid: field_type"],
    ["a list in a list", { "process:uid": [[1]] }, ".process:uid[0]: field_type"],
    ["an empty text", { "process:name": "" }, ".process:name: field_empty"],
    ["an unknown label", { "process:uuid": 1 }, ".process:uuid: label_unknown"],
    ["a label of the neighbour", { "process:binary:path": "/a" }, ".process:binary:path: label_unknown"],
    ["a label without a room", { uid: 1 }, ".uid: label_unknown"],
    ["a label of every object", { constructor: 1 }, ".constructor: label_unknown"],
    ["an argument without a number", { "process:arg[x]": 1 }, ".process:arg[x]: label_unknown"],
    ["a UID by name", { "process:uid": "root" }, ".process:uid: selector_never_matches"],
    ["a negative UID", { "process:uid": -1 }, ".process:uid: selector_never_matches"],
    ["a UID past 32 bits", { "process:uid": 4294967296 }, ".process:uid: selector_never_matches"],
    ["the UID that is none", { "process:uid": 4294967295 }, ".process:uid: selector_never_matches"],
    ["a broken UID", { "process:uid": 1.5 }, ".process:uid: selector_never_matches"],
    ["a relative path", { "process:exe": "bin/a" }, ".process:exe: selector_never_matches"],
    ["a path that no kernel gives", { "process:exe": "/usr/../bin/a" }, ".process:exe: selector_never_matches"],
    ["a path with an empty part", { "process:exe": "//bin/a" }, ".process:exe: selector_never_matches"],
    ["a directory", { "process:exe": "/bin/" }, ".process:exe: selector_never_matches"],
    ["a star inside a path", { "process:exe": "/opt/*/bin" }, ".process:exe: selector_never_matches"],
    [
      "a name longer than the kernel keeps",
      { "process:name": "sixteen-letters-" },
      ".process:name: selector_never_matches",
    ],
    ["a digest that is none", { "process:exe:sha256": "abc" }, ".process:exe:sha256: selector_never_matches"],
    ["a capability in lower case", { "process:caps": "net_raw" }, ".process:caps: selector_never_matches"],
    ["a seccomp mode that is none", { "process:seccomp": "on" }, ".process:seccomp: selector_never_matches"],
    ["no_new_privs as a number", { "process:no_new_privs": 1 }, ".process:no_new_privs: selector_never_matches"],
    ["blanks round a value", { "process:user": " root" }, ".process:user: selector_never_matches"],
    ["a line break in a value", { "process:cmdline": "a\nb" }, ".process:cmdline: selector_never_matches"],
    [
      "arguments that contradict",
      { "process:arg[0]": "python", "process:cmdline": "node x" },
      ": selector_never_matches",
    ],
  ])("checkSelectors() refuses %s", (_, selectors, fault) => {
    const [first = "", ...others] = faults({ selectors });
    expect([first.replace(/(process:\w+)\[0\](?=: selector)/, "$1"), others]).toEqual([`spec.selectors${fault}`, []]);
  });

  test("checkSelectors() takes every documented label", () => {
    const digest = "AB".repeat(32);
    const selectors = {
      "process:name": "fifteen-letters",
      "process:exe": ["/usr/bin/a", "/opt/*", "/opt/a*"],
      "process:exe:sha256": digest,
      "process:script": "/opt/a b.py",
      "process:arg[0]": ["python", "x"],
      "process:cmdline": "python x",
      "process:uid": [0, "1", 4294967294],
      "process:caps": "CAP_NET_RAW",
      "process:no_new_privs": true,
      "process:seccomp": ["filter", "strict"],
      "process:ancestor:exe": "/usr/sbin/*",
      "systemd:unit": "a@b.service",
      "docker:label:com.example/x": 1.5,
      "k8s:pod:namespace": "default",
      "node:name": "edge-1",
    };
    const [made] = loadDocuments(identity("a", { workloadID: "a", selectors })).identities;
    const values = new Map(made?.selectors[0]?.entries.map((entry) => [entry.label, entry.values]));
    expect(values.get("process:exe:sha256")).toEqual([digest.toLowerCase()]);
    expect(values.get("docker:label:com.example/x")).toEqual(["1.5"]);
  });

  test.each<[unknown, number]>([
    ["20s", 20],
    ["1h", 3600],
    ["3600s", 3600],
    ["59m60s", 3600],
    ["0h10m", 600],
  ])("checkTtl() takes %j", (ttl, seconds) => {
    expect(
      loadDocuments(identity("a", { workloadID: "a", selectors: SELECTED, svid: { x509: { ttl } } })).identities[0]
        ?.ttlSeconds,
    ).toBe(seconds);
  });

  test.each(["20", 20, "1d", "-1h", "1.5h", "1h ", "9s", "3601s", "2h", "1s1h", "99999999s", "٣s"])(
    "checkTtl() refuses %j",
    (ttl) => {
      expect(faults({ svid: { x509: { ttl } } })).toEqual(["spec.svid.x509.ttl: field_invalid"]);
    },
  );

  test("checkWorkloadIdentity() keeps private keys in the kernel unless the rule delivers them", () => {
    const delivery = (svid: object) =>
      loadDocuments(identity("a", { workloadID: "a", selectors: SELECTED, svid })).identities[0]?.delivery;
    expect([
      delivery({}),
      delivery({ x509: { delivery: "kernel" } }),
      delivery({ x509: { delivery: "workload-api" } }),
    ]).toEqual(["kernel", "kernel", "workload-api"]);
  });

  test("checkWorkloadIdentity() refuses names, scopes and fields that are none", () => {
    expect(
      faults({ svid: { x509: { dnsNames: ["*.a.test", "a..b", "10.0.0.1", "a b", "-a", "a.test", "A.test."] } } }),
    ).toEqual([0, 1, 2, 3, 4].map((i) => `spec.svid.x509.dnsNames[${i}]: field_invalid`));
    expect(faults({ svid: { x509: { delivery: "file" } } })).toEqual(["spec.svid.x509.delivery: field_invalid"]);
    expect(faults({ svid: { x509: { delivery: 1 } } })).toHaveLength(1);
    expect(faults({ svid: { jwt: {} } })).toEqual(["spec.svid.jwt: field_unknown"]);
    expect(faults({ scope: {} })).toEqual(["spec.scope: field_invalid"]);
    expect(faults({ scope: { node: { id: "a" }, nodeGroup: { id: "b" } } })).toEqual(["spec.scope: field_invalid"]);
    expect(faults({ scope: { cluster: { id: "a" } } })).toEqual(["spec.scope.cluster: field_unknown"]);
    expect(faults({ scope: { node: { name: "a" } } })).toEqual([
      "spec.scope.node.name: field_unknown",
      "spec.scope.node: field_missing",
    ]);
    expect(faults({ workloadId: "a" })).toEqual(["spec.workloadId: field_unknown"]);
  });
});

describe("kind Service", () => {
  const faults = (spec: Record<string, unknown>) =>
    faultsOf(service("s", { addresses: [{ address: "10.0.0.1" }], ...spec }));

  test("checkService() gives an external service its own TLS and another mutual, unless it says otherwise", () => {
    const tls = (spec: object) =>
      loadDocuments(service("s", { addresses: [{ address: "10.0.0.1" }], ...spec })).services.get("s")?.tls;
    expect([tls({}), tls({ external: true }), tls({ external: true, tls: "plain" })]).toEqual([
      "mutual",
      "passthrough",
      "plain",
    ]);
  });

  test.each<[string, Record<string, unknown>, string[]]>([
    ["no address", { addresses: [] }, ["spec.addresses: field_invalid"]],
    ["addresses that are a text", { addresses: "10.0.0.1" }, ["spec.addresses: field_type"]],
    ["an address that is none", { addresses: [{ address: "10.0.0" }] }, ["spec.addresses[0].address: address_invalid"]],
    ["a wildcard name", { addresses: [{ address: "*.a.test" }] }, ["spec.addresses[0].address: address_invalid"]],
    ["a URL", { addresses: [{ address: "https://a.test" }] }, ["spec.addresses[0].address: address_invalid"]],
    [
      "bits past the prefix",
      { addresses: [{ address: "10.0.0.1/8" }] },
      ["spec.addresses[0].address: address_invalid"],
    ],
    [
      "a port in the address",
      { addresses: [{ address: "10.0.0.1:80" }] },
      ["spec.addresses[0].address: address_invalid"],
    ],
    ["port 0", { addresses: [{ address: "a.test", ports: [0] }] }, ["spec.addresses[0].ports[0]: field_invalid"]],
    [
      "port 65536",
      { addresses: [{ address: "a.test", ports: [65536] }] },
      ["spec.addresses[0].ports[0]: field_invalid"],
    ],
    [
      "a range backwards",
      { addresses: [{ address: "a.test", ports: ["9-8"] }] },
      ["spec.addresses[0].ports[0]: ports_empty"],
    ],
    [
      "no port in the list",
      { addresses: [{ address: "a.test", ports: [] }] },
      ["spec.addresses[0].ports: ports_empty"],
    ],
    [
      "a workload beside an address",
      { addresses: [{ address: "a.test", workload: "a" }] },
      ["spec.addresses[0].workload: field_invalid"],
    ],
    [
      "a workload of another trust domain",
      { addresses: [{ workload: "spiffe://b.test/a" }] },
      ["spec.addresses[0].workload: id_invalid"],
    ],
    ["one port", { addresses: [{ address: "a.test", ports: 80 }] }, ["spec.addresses[0].ports: field_type"]],
    ["a TLS that is none", { tls: "Mutual" }, ["spec.tls: field_invalid"]],
    ["external as a text", { external: "yes" }, ["spec.external: field_type"]],
  ])("checkService() refuses %s", (_, spec, wanted) => {
    expect(faults(spec)).toEqual(wanted);
  });

  test("checkPorts() joins what touches or overlaps", () => {
    const set = loadDocuments(
      service("s", { addresses: [{ address: "a.test", ports: [80, "81-90", "85-100", 443, "1-2"] }] }),
    );
    expect(set.services.get("s")?.addresses[0]?.ports).toEqual([
      { from: 1, to: 2 },
      { from: 80, to: 100 },
      { from: 443, to: 443 },
    ]);
  });
});

describe("kind AccessPolicy", () => {
  const faults = (spec: Record<string, unknown>) =>
    faultsOf(accessPolicy("p", { workloads: ["web"], egress: [], ...spec }));
  const egress = (...rules: unknown[]) => faults({ egress: rules });

  test("checkAccessPolicy() takes IDs, prefixes and whole SPIFFE IDs", () => {
    const workloads = ["web", "team/*", "*", "spiffe://edge.test/a", "spiffe://edge.test/*"];
    const [policy] = loadDocuments(accessPolicy("p", { workloads, egress: [] })).policies;
    expect(policy?.workloads.map(({ text, match }) => `${match} ${text}`)).toEqual([
      "exact spiffe://edge.test/web",
      "prefix spiffe://edge.test/team/",
      "prefix spiffe://edge.test/",
      "exact spiffe://edge.test/a",
      "prefix spiffe://edge.test/",
    ]);
  });

  test.each<[unknown, string]>([
    [[], "spec.workloads: field_invalid"],
    ["", "spec.workloads: field_empty"],
    [["spiffe://other.test/a"], "spec.workloads[0]: id_outside_trust_domain"],
    [["spiffe://edge.test"], "spec.workloads[0]: id_invalid"],
    [["team*"], "spec.workloads[0]: id_invalid"],
    [["*/a"], "spec.workloads[0]: id_invalid"],
    [["a/"], "spec.workloads[0]: id_invalid"],
    [["/*"], "spec.workloads[0]: id_invalid"],
    [["[process:uid]"], "spec.workloads[0]: id_invalid"],
    [[7], "spec.workloads[0]: field_type"],
  ])("checkAccessPolicy() refuses workloads %j", (workloads, fault) => {
    expect(faults({ workloads })).toEqual([fault]);
  });

  test("checkAccessPolicy() refuses a prefix that no ID is long enough to match", () => {
    const room = 2048 - "spiffe://edge.test/".length;
    expect(faults({ workloads: [`${"a".repeat(room)}/*`] })).toEqual(["spec.workloads[0]: id_invalid"]);
    expect(faults({ workloads: [`${"a".repeat(room - 1)}/*`] })).toEqual([]);
  });

  test("checkAccessPolicy() refuses a policy that says nothing", () => {
    expect(faultsOf(accessPolicy("p", { workloads: ["web"] }))).toEqual(["spec: policy_says_nothing"]);
    expect(faults({ egress: null })).toEqual(["spec.egress: field_empty"]);
    expect(faults({ egress: {} })).toEqual(["spec.egress: field_type"]);
    expect(faults({ mode: "strict" })).toEqual(["spec.mode: field_invalid"]);
  });

  test.each<[string, unknown, string]>([
    ["an empty list of places", { to: [] }, ".to: field_invalid"],
    ["an empty place", { to: [{}] }, ".to[0]: field_invalid"],
    ["two places in one", { to: [{ service: "a", address: "10.0.0.1" }] }, ".to[0]: field_invalid"],
    ["a DNS name as an address", { to: [{ address: "a.test" }] }, ".to[0].address: address_invalid"],
    ["every IPv6 address", { to: [{ address: "::/0" }] }, ".to[0].address: address_invalid"],
    ["from in egress", { from: [{ peer: "a" }] }, ".from: field_unknown"],
    ["a peer without TLS", { to: [{ peer: "a" }], tls: "plain" }, ": rule_contradicts"],
    ["a peer behind its own TLS", { to: [{ peer: "a" }], tls: "passthrough" }, ": rule_contradicts"],
    ["TLS for a denial", { action: "deny", tls: "mutual" }, ": rule_contradicts"],
    ["an action that is none", { action: "drop" }, ".action: field_invalid"],
    ["no peers", { to: [{ peer: [] }] }, ".to[0].peer: field_invalid"],
    ["a peer that is none", { to: [{ peer: "a b" }] }, ".to[0].peer: id_invalid"],
  ])("checkRule() refuses %s", (_, rule, fault) => {
    expect(egress(rule)).toEqual([`spec.egress[0]${fault}`]);
  });

  test("checkRule() refuses a service as the source of ingress", () => {
    expect(faults({ ingress: [{ from: [{ service: "a" }] }] })).toEqual([
      "spec.ingress[0].from[0].service: field_unknown",
    ]);
  });

  test("checkRule() takes a peer of another trust domain and warns", () => {
    const set = loadDocuments(
      accessPolicy("p", { workloads: ["*"], egress: [{ to: [{ peer: "spiffe://other.test/a" }] }] }),
    );
    expect(set.warnings.map(({ code }) => code)).toContain("id_outside_trust_domain");
  });
});
