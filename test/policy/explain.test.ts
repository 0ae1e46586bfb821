// explainPolicy(): the verdict, the reason, and a remedy that really helps, shown by compiling it.
import { describe, expect, test } from "bun:test";
import { explainPolicy, type PolicyAnswer, type PolicyQuestion } from "../../src/policy.ts";
import { loadResources, parseResources } from "../../src/resource.ts";
import { SpiffeId } from "../../src/spiffe_id.ts";
import { accessPolicy, service, trustDomain } from "../resource/sample.ts";

const WEB = SpiffeId.parse("spiffe://edge.test/web");
const DB = SpiffeId.parse("spiffe://edge.test/db");
const ADDRESSES = new Map([["db.test", ["10.5.5.5"]]]);

const DOCUMENTS = [
  service("db", { addresses: [{ address: "db.test", ports: [5432] }] }),
  service("lost", { addresses: [{ address: "lost.test", ports: [1] }] }),
  service("metrics", { addresses: [{ address: "10.6.0.0/16" }], tls: "plain" }),
  accessPolicy("web", {
    workloads: ["web"],
    egress: [
      { to: [{ address: "10.1.0.0/16", peer: "api" }], ports: [443] },
      { to: [{ address: "10.9.0.0/16" }], action: "deny" },
    ],
    ingress: [{ from: [{ peer: "front" }], ports: [8080] }],
  }),
  accessPolicy("soft", { workloads: ["soft"], mode: "permissive", egress: [] }),
];

function explain(question: PolicyQuestion, more = ""): PolicyAnswer {
  const texts = [{ file: "rules.yaml", text: DOCUMENTS.map((document) => JSON.stringify(document)).join("\n---\n") }];
  if (more !== "") texts.push({ file: "remedy.yaml", text: more });
  return explainPolicy(question, { resources: parseResources(texts, { trustDomain }), addresses: ADDRESSES });
}

describe("explainPolicy()", () => {
  test("explainPolicy() says unmanaged when the process has no identity", () => {
    const answer = explain({ from: undefined, to: { address: "10.0.0.1", port: 1 } });
    expect(answer).toMatchObject({ verdict: "unmanaged", mode: "none" });
  });

  test("explainPolicy() says plain when no policy selects the identity", () => {
    const answer = explain({ from: DB, to: { address: "10.0.0.1", port: 1 } });
    expect(answer).toMatchObject({ verdict: "plain", mode: "none", remedy: undefined });
    expect(answer.steps.at(-1)).toBe("No policy selects it for egress: the connection is plain.");
  });

  test("explainPolicy() names the rule and the peers it asks for when it allows", () => {
    const answer = explain({ from: WEB, to: { address: "10.1.2.3", port: 443 } });
    expect(answer).toMatchObject({ verdict: "allow", mode: "enforce", rule: { index: 0, direction: "egress" } });
    expect(answer.steps.join(" ")).toContain("AccessPolicy/web#egress[0] (rules.yaml:");
    expect(answer.steps.join(" ")).toContain("spiffe://edge.test/api");
  });

  test.each<[string, PolicyQuestion]>([
    ["an address", { from: WEB, to: { address: "10.2.2.2", port: 80 } }],
    ["an IPv6 address", { from: WEB, to: { address: "fd00::1", port: 80 } }],
    ["a port", { from: WEB, to: { address: "10.1.2.3", port: 444 } }],
    ["a peer", { from: WEB, to: { peer: DB } }],
    ["a peer at an address", { from: WEB, to: { address: "10.1.2.3", port: 443, peer: DB } }],
    ["a service", { from: WEB, to: { service: "db" } }],
    ["a port of a service", { from: WEB, to: { service: "metrics", port: 9100 } }],
    ["a caller's address", { from: WEB, to: { address: "10.2.2.2", port: 9090 }, inbound: true }],
    ["a caller", { from: WEB, to: { peer: DB }, inbound: true }],
  ])("explainPolicy() gives a policy that allows %s once it is applied", (_, question) => {
    const before = explain(question);
    expect(before).toMatchObject({ verdict: "deny", mode: "enforce" });
    const remedy = before.remedy ?? "";
    expect(remedy).toStartWith("apiVersion: riprap.io/v1\nkind: AccessPolicy\n");
    const after = explain(question, remedy);
    const wanted = question.to.service === "metrics" ? "plain" : "allow"; // that service is plain by its own word
    expect(after).toMatchObject({ verdict: wanted, mode: "enforce", remedy: undefined });
  });

  test("explainPolicy() gives a remedy as narrow as the question", () => {
    const { remedy = "" } = explain({ from: WEB, to: { address: "10.2.2.2", port: 80 } });
    expect(explain({ from: WEB, to: { address: "10.2.2.2", port: 81 } }, remedy).verdict).toBe("deny");
    expect(explain({ from: WEB, to: { address: "10.2.2.3", port: 80 } }, remedy).verdict).toBe("deny");
  });

  test("explainPolicy() names the rule to remove when a deny is in the way", () => {
    const answer = explain({ from: WEB, to: { address: "10.9.1.1", port: 80 } });
    expect(answer.verdict).toBe("deny");
    expect(answer.remedy).toStartWith("Remove or narrow AccessPolicy/web#egress[1] (rules.yaml:");
  });

  test("explainPolicy() says that the name does not resolve when a service has no address", () => {
    const answer = explain({ from: WEB, to: { service: "lost" } });
    expect([answer.verdict, answer.remedy?.includes("resolve")]).toEqual(["deny", true]);
  });

  test("explainPolicy() says plain, and what would be needed, when the mode lets it through", () => {
    const soft = SpiffeId.parse("spiffe://edge.test/soft");
    const answer = explain({ from: soft, to: { address: "10.0.0.1", port: 1 } });
    expect(answer).toMatchObject({ verdict: "plain", mode: "permissive" });
    expect(answer.remedy).toContain("mode: permissive");
    expect(explain({ from: soft, to: { address: "10.0.0.1", port: 1 } }, answer.remedy)).toMatchObject({
      verdict: "allow",
      mode: "permissive",
    });
  });

  test.each<[string, PolicyQuestion["to"]]>([
    ["nothing", {}],
    ["an address without a port", { address: "10.0.0.1" }],
    ["no address", { address: "web", port: 80 }],
    ["port 0", { address: "10.0.0.1", port: 0 }],
    ["port 65536", { address: "10.0.0.1", port: 65536 }],
  ])("explainPolicy() refuses a question about %s", (_, to) => {
    expect(() => explain({ from: WEB, to })).toThrow(expect.objectContaining({ code: "invalid" }));
  });

  test("explainPolicy() refuses to say whether a service may reach somebody", () => {
    expect(() => explain({ from: WEB, to: { service: "db" }, inbound: true })).toThrow(
      expect.objectContaining({ code: "invalid" }),
    );
  });

  test("explainPolicy() asks about a service on any port at a port that a rule names", () => {
    const more = JSON.stringify(
      accessPolicy("m", { workloads: ["web"], egress: [{ to: [{ service: "metrics" }], ports: [9100] }] }),
    );
    expect(explain({ from: WEB, to: { service: "metrics" } }, more).steps.join(" ")).toContain(
      "10.6.0.0:9100 of Service metrics",
    );
  });

  test("explainPolicy() refuses a service that is not there", () => {
    expect(() => explain({ from: WEB, to: { service: "nope" } })).toThrow(
      expect.objectContaining({ code: "not_found" }),
    );
  });

  test("explainPolicy() explains an empty rules directory", () => {
    const resources = loadResources("/nonexistent/rules.d", { trustDomain });
    expect(
      explainPolicy({ from: WEB, to: { address: "::1", port: 1 } }, { resources, addresses: ADDRESSES }).verdict,
    ).toBe("plain");
  });
});
