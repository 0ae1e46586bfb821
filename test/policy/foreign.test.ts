// Peers of other trust domains in policies: by ID or prefix, and never by a rule that names nobody.
import { describe, expect, test } from "bun:test";
import { explainPolicy } from "../../src/policy.ts";
import { SpiffeId } from "../../src/spiffe_id.ts";
import { accessPolicy, foreignDomain, identity, loadDocuments } from "../resource/sample.ts";

const WEB = SpiffeId.parse("spiffe://edge.test/web");
const addresses = new Map<string, readonly string[]>();
const documents = [
  identity("web", { workloadID: "web", selectors: { "process:uid": 1 } }),
  accessPolicy("web", {
    workloads: ["web"],
    ingress: [
      { from: [{ peer: "spiffe://partner.test/orders/*" }], ports: [8080] },
      { from: [{ address: "10.0.0.0/8" }], ports: [9090] },
      { from: [{ peer: "spiffe://partner.test/orders/bad" }], action: "deny" },
    ],
  }),
];

function verdict(peer: string, port: number, ...others: unknown[]): string {
  const resources = loadDocuments(...documents, ...others);
  const to = { address: "10.0.0.9", port, peer: SpiffeId.parse(peer) };
  return explainPolicy({ from: WEB, to, inbound: true }, { resources, addresses }).verdict;
}

describe("explainPolicy() with other trust domains", () => {
  const partner = foreignDomain("partner", { trustDomain: "partner.test" });

  test("explainPolicy() allows a foreign ID that a rule names and no other of its domain", () => {
    expect(verdict("spiffe://partner.test/orders/a", 8080, partner)).toBe("allow");
    expect(verdict("spiffe://partner.test/billing", 8080, partner)).toBe("deny");
    expect(verdict("spiffe://partner.test/orders/bad", 8080, partner)).toBe("deny");
  });

  test("explainPolicy() keeps an ID of the same path in our own domain apart", () => {
    expect(verdict("spiffe://edge.test/orders/a", 8080, partner)).toBe("deny");
  });

  test("explainPolicy() denies an ID that a rule names when no bundle of its domain is held, and says what is missing", () => {
    const explain = (...others: unknown[]) => {
      const resources = loadDocuments(...documents, ...others);
      const to = { address: "10.0.0.9", port: 8080, peer: SpiffeId.parse("spiffe://partner.test/orders/a") };
      return explainPolicy({ from: WEB, to, inbound: true }, { resources, addresses, isHeld: () => false });
    };
    expect(explain(partner)).toMatchObject({ verdict: "deny", remedy: expect.stringContaining("riprap bundle set") });
    expect(explain(partner).steps.at(-1)).toContain("No bundle of partner.test is held");
    expect(explain().remedy).toContain("Add a TrustDomain resource");
  });

  test("explainPolicy() lets ours alone in by a rule that names no peer when another domain is trusted", () => {
    expect(verdict("spiffe://edge.test/anyone", 9090, partner)).toBe("allow");
    expect(verdict("spiffe://partner.test/orders/a", 9090, partner)).toBe("deny");
  });
});
