import { beforeAll, describe, expect, test } from "bun:test";
import { parseCertificate } from "../../src/ca/certificate.ts";
import { type ChainContext, type PeerAnswer, verifyChain } from "../../src/ca/chain.ts";
import { anchorsOf } from "../../src/ca/foreign.ts";
import { TrustDomain } from "../../src/spiffe_id.ts";
import type { BundleOf, TrustBundle } from "../../src/trust_bundle.ts";
import { type ForgedChain, forgeChain, makeKeys, permitUri, START } from "./forge.ts";

const OWN = TrustDomain.parse("example.org");
const PARTNER = TrustDomain.parse("partner.test");

let own: ForgedChain;
let partner: ForgedChain;

beforeAll(async () => {
  own = await forgeChain();
  const [root, intermediate] = [await makeKeys(), await makeKeys()];
  partner = await forgeOf("partner.test", { root, intermediate });
});

function forgeOf(domain: string, { root, intermediate }: { root: CryptoKeyPair; intermediate: CryptoKeyPair }) {
  const names = [{ type: "url" as const, value: `spiffe://${domain}` }];
  return forgeChain({
    root: { names, keys: root, signWith: root },
    intermediate: { names, keys: intermediate, nameConstraints: permitUri(domain) },
    leaf: { names: [{ type: "url", value: `spiffe://${domain}/a` }] },
  });
}

function bundle(trustDomain: TrustDomain, ...x509: Uint8Array[]): TrustBundle {
  return { trustDomain, x509, jwt: [], sequence: 1n, refreshHintSeconds: undefined };
}

function judge(chain: readonly Uint8Array[], bundleOf?: BundleOf): PeerAnswer {
  const context: ChainContext = {
    trustDomain: OWN,
    anchors: [parseCertificate(own.root)],
    now: START,
    isRevoked: () => false,
    foreignAnchors(trustDomain) {
      const found = bundleOf?.(trustDomain);
      return found === undefined ? undefined : anchorsOf(found);
    },
  };
  return verifyChain(chain, context);
}

const holding =
  (...bundles: TrustBundle[]): BundleOf =>
  (wanted) =>
    bundles.find(({ trustDomain }) => trustDomain.equals(wanted));

describe("verifyChain() with other trust domains", () => {
  test("verifyChain() judges a leaf by the bundle of its own trust domain when one is held (rows B-1, X-15)", () => {
    const answer = judge([partner.leaf, partner.intermediate], holding(bundle(PARTNER, partner.root)));
    if (!answer.ok) throw new Error(answer.message);
    expect(String(answer.spiffeId)).toBe("spiffe://partner.test/a");
    expect(Buffer.from(answer.root)).toEqual(Buffer.from(partner.root));
  });

  test("verifyChain() refuses a leaf of another trust domain when no bundle of it is held, or an empty one (row B-7)", () => {
    for (const bundleOf of [undefined, holding(), holding(bundle(PARTNER))]) {
      const answer = judge([partner.leaf, partner.intermediate], bundleOf);
      expect(answer).toMatchObject({ ok: false, code: "foreign_trust_domain", alert: 48 });
      if (!answer.ok) expect(answer.message).toContain("no bundle of partner.test is held");
    }
  });

  test("verifyChain() never judges by the bundle of a third trust domain (row F-5)", () => {
    const third = TrustDomain.parse("third.test");
    const answer = judge([partner.leaf, partner.intermediate], holding(bundle(third, partner.root)));
    expect(answer).toMatchObject({ ok: false, code: "foreign_trust_domain" });
  });

  test("verifyChain() refuses a leaf of our trust domain that a foreign root has signed (row F-5)", async () => {
    const [root, intermediate] = [await makeKeys(), await makeKeys()];
    const forged = await forgeOf("example.org", { root, intermediate });
    const bundleOf = holding(bundle(PARTNER, forged.root), bundle(OWN, forged.root));
    expect(judge([forged.leaf, forged.intermediate], bundleOf)).toMatchObject({ ok: false });
  });

  test("verifyChain() refuses a leaf of a foreign domain that our own root has signed (row F-5)", async () => {
    const crossed = await forgeChain({
      intermediate: { nameConstraints: null },
      leaf: { names: [{ type: "url", value: "spiffe://partner.test/a" }] },
    });
    const answer = judge([crossed.leaf, crossed.intermediate], holding(bundle(PARTNER, partner.root)));
    expect(answer.ok).toBe(false);
  });

  test("verifyChain() refuses a third domain's ID below a foreign root that may not name it", async () => {
    const keys = { root: await makeKeys(), intermediate: await makeKeys() };
    const names = [{ type: "url" as const, value: "spiffe://partner.test" }];
    const forged = await forgeChain({
      root: { names, keys: keys.root, signWith: keys.root },
      intermediate: { names, keys: keys.intermediate, nameConstraints: null },
      leaf: { names: [{ type: "url", value: "spiffe://third.test/a" }] },
    });
    const third = TrustDomain.parse("third.test");
    const bundleOf = holding(bundle(PARTNER, forged.root), bundle(third, partner.root));
    expect(judge([forged.leaf, forged.intermediate], bundleOf).ok).toBe(false);
  });
});

describe("anchorsOf()", () => {
  test("anchorsOf() leaves out what no path can end in and keeps the rest (row B-6)", () => {
    const noise = Uint8Array.of(0x30, 0x03, 1, 2, 3);
    expect(anchorsOf(bundle(PARTNER, noise, partner.root, partner.leaf))).toHaveLength(1);
    // A CA that names itself after another trust domain is no root of this one.
    expect(anchorsOf(bundle(PARTNER, own.root))).toHaveLength(0);
  });
});
