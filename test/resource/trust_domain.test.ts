// kind: TrustDomain at the door: what is taken, what is refused and under which name.
import { describe, expect, test } from "bun:test";
import { listResources } from "../../src/resource.ts";
import { accessPolicy, faultsOf, foreignDomain, loadDocuments } from "./sample.ts";

const EMPTY_BUNDLE = '{"keys":[],"spiffe_sequence":1}';
const WEB = { url: "https://partner.test/bundle", profile: "https_web" };
const SPIFFE = {
  url: "https://10.0.0.1:8443/bundle",
  profile: "https_spiffe",
  spiffeID: "spiffe://partner.test/riprap/bundle-endpoint",
};
const FINGERPRINT = `sha256:${"0a".repeat(32)}`;

const faults = (spec: Record<string, unknown>) =>
  faultsOf(foreignDomain("partner", { trustDomain: "partner.test", ...spec }));

describe("kind TrustDomain", () => {
  test.each<[string, Record<string, unknown>]>([
    ["a name alone", {}],
    ["a file", { bundle: { file: "/etc/riprap/partner.json" } }],
    ["a file and its fingerprint", { bundle: { file: "/etc/riprap/partner.json", fingerprint: FINGERPRINT } }],
    ["a fingerprint alone", { bundle: { fingerprint: FINGERPRINT }, endpoint: WEB }],
    ["an inline bundle", { bundle: { inline: EMPTY_BUNDLE } }],
    ["an https_web endpoint", { endpoint: WEB }],
    ["an https_spiffe endpoint", { endpoint: SPIFFE }],
    ["an endpoint of our own trust domain", { endpoint: { ...SPIFFE, spiffeID: "spiffe://edge.test/relay" } }],
  ])("checkTrustDomain() takes %s (row F-8)", (_, spec) => {
    expect(faults(spec)).toEqual([]);
  });

  test.each<[string, Record<string, unknown>, string]>([
    ["no name", { trustDomain: null }, "spec.trustDomain: field_empty"],
    ["a whole ID", { trustDomain: "spiffe://partner.test" }, "spec.trustDomain: trust_domain_invalid"],
    ["a name in capitals", { trustDomain: "Partner.test" }, "spec.trustDomain: trust_domain_invalid"],
    ["our own name", { trustDomain: "edge.test" }, "spec.trustDomain: trust_domain_own"],
    ["an unknown field", { federatesWith: "x" }, "spec.federatesWith: field_unknown"],
    ["an empty bundle", { bundle: {} }, "spec.bundle: field_invalid"],
    ["two bundles", { bundle: { file: "/a", inline: EMPTY_BUNDLE } }, "spec.bundle: field_invalid"],
    ["a relative file", { bundle: { file: "partner.json" } }, "spec.bundle.file: field_invalid"],
    ["a bundle that is no JSON", { bundle: { inline: "keys: []" } }, "spec.bundle.inline: bundle_invalid"],
    [
      "a bundle with a key twice",
      { bundle: { inline: '{"keys":[],"keys":[]}' } },
      "spec.bundle.inline: bundle_invalid",
    ],
    ["a short fingerprint", { bundle: { fingerprint: "sha256:00" } }, "spec.bundle.fingerprint: field_invalid"],
    ["no URL", { endpoint: { profile: "https_web" } }, "spec.endpoint: field_missing"],
    ["no profile", { endpoint: { url: WEB.url } }, "spec.endpoint: field_missing"],
    ["another profile", { endpoint: { ...WEB, profile: "https" } }, "spec.endpoint.profile: field_invalid"],
    ["https_web with an ID", { endpoint: { ...SPIFFE, profile: "https_web" } }, "spec.endpoint: rule_contradicts"],
    ["https_spiffe without an ID", { endpoint: { ...WEB, profile: "https_spiffe" } }, "spec.endpoint: field_missing"],
    [
      "an ID without a path",
      { endpoint: { ...SPIFFE, spiffeID: "spiffe://partner.test" } },
      "spec.endpoint.spiffeID: id_invalid",
    ],
    [
      "a server of a domain that is not known",
      { endpoint: { ...SPIFFE, spiffeID: "spiffe://third.test/a" } },
      "spec.endpoint.spiffeID: trust_domain_unknown",
    ],
  ])("checkTrustDomain() refuses %s (rows F-8, F-11, F-18, F-19)", (_, spec, fault) => {
    expect(faults(spec)).toEqual([fault]);
  });

  test.each([
    "http://partner.test/bundle",
    "https://user@partner.test/bundle",
    "https://user:word@partner.test/bundle",
    "https://@partner.test/bundle",
    "https://partner.test/bundle#x",
    "https://",
    "partner.test/bundle",
    "https://partner.test/a b",
    "https://partner.test/\u00fc",
    `https://partner.test/${"a".repeat(2048)}`,
    "file:///etc/shadow",
  ])("parseEndpointUrl() refuses %j (row F-10)", (url) => {
    expect(faults({ endpoint: { ...WEB, url } })).toEqual(["spec.endpoint.url: endpoint_url_invalid"]);
  });

  test("checkFederation() refuses a trust domain that two documents name", () => {
    const spec = { trustDomain: "partner.test" };
    expect(faultsOf(foreignDomain("a", spec), foreignDomain("b", spec))).toEqual([
      "spec.trustDomain: trust_domain_twice",
    ]);
  });

  test("checkFederation() warns of a peer in a trust domain that nothing names, and not of one that is", () => {
    const policy = accessPolicy("p", { workloads: ["*"], egress: [{ to: [{ peer: "spiffe://partner.test/a" }] }] });
    const codes = (...documents: unknown[]) => loadDocuments(...documents).warnings.map(({ code }) => code);
    expect(codes(policy)).toContain("id_outside_trust_domain");
    expect(codes(policy, foreignDomain("p", { trustDomain: "partner.test" }))).not.toContain("id_outside_trust_domain");
  });

  test("listResources() lists trust domains", () => {
    const set = loadDocuments(foreignDomain("p", { trustDomain: "partner.test", endpoint: SPIFFE }));
    expect(listResources(set).map(({ kind, name }) => `${kind}/${name}`)).toEqual(["TrustDomain/p"]);
  });
});
