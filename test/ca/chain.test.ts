import { beforeAll, describe, expect, test } from "bun:test";
import { Extension, KeyUsageFlags } from "@peculiar/x509";
import { parseCertificate } from "../../src/ca/certificate.ts";
import {
  type ChainContext,
  CLOCK_SKEW_MAX_MS,
  type PeerAnswer,
  REFUSAL_ALERT,
  type RefusalCode,
  verifyChain,
} from "../../src/ca/chain.ts";
import { TrustDomain } from "../../src/spiffe_id.ts";
import {
  type ForgedChain,
  type Forgery,
  forge,
  forgeChain,
  HOUR,
  keysOfForge,
  makeKeys,
  nameConstraintsDer,
  P256,
  permitUri,
  pointOf,
  START,
  short,
} from "./forge.ts";

const { digitalSignature, keyCertSign, cRLSign, keyEncipherment } = KeyUsageFlags;
const url = (value: string) => ({ type: "url" as const, value });
const dns = (value: string) => ({ type: "dns" as const, value });
const NULL_EXTENSION = new Extension("1.2.3.4", false, Uint8Array.of(5, 0));

function judge(chain: readonly Uint8Array[], root: Uint8Array, changes: Partial<ChainContext> = {}): PeerAnswer {
  const trustDomain = TrustDomain.parse("example.org");
  return verifyChain(chain, {
    trustDomain,
    anchors: [parseCertificate(root)],
    now: START,
    isRevoked: () => false,
    ...changes,
  });
}

async function judgeForged(forgeries: { leaf?: Forgery; intermediate?: Forgery; root?: Forgery }): Promise<PeerAnswer> {
  const { leaf, intermediate, root } = await forgeChain(forgeries);
  return judge([leaf, intermediate], root);
}

function expectRefusal(answer: PeerAnswer, code: RefusalCode): void {
  expect(answer).toMatchObject({ ok: false, code, alert: REFUSAL_ALERT[code] });
  if (!answer.ok) expect(answer.message).toMatch(/^Cannot accept the peer's certificate chain: /);
}

let good: ForgedChain;
beforeAll(async () => {
  good = await forgeChain();
});

describe("verifyChain() accepts", () => {
  test("verifyChain() answers ID, key, the earliest end and the serials when the chain is good", async () => {
    const answer = judge([good.leaf, good.intermediate], good.root);
    if (!answer.ok) throw new Error(answer.message);
    expect(answer.spiffeId.toString()).toBe("spiffe://example.org/a");
    expect(Buffer.from(answer.publicKey)).toEqual(Buffer.from(await pointOf(good.keys.leaf)));
    expect(answer.notAfter.getTime()).toBe(START + HOUR);
    expect(answer.serials).toEqual(["43", "42"]);
  });

  test("verifyChain() answers the earliest end when an issuer or the root ends first", async () => {
    const shortIssuer = await forgeChain({ intermediate: { notAfter: START + 1000 } });
    expect(judge([shortIssuer.leaf, shortIssuer.intermediate], shortIssuer.root)).toMatchObject({
      notAfter: new Date(START + 1000),
    });
    const shortRoot = await forgeChain({ root: { notAfter: START + 2000 } });
    expect(judge([shortRoot.leaf, shortRoot.intermediate], shortRoot.root)).toMatchObject({
      notAfter: new Date(START + 2000),
    });
  });

  test("verifyChain() accepts when the peer sends the root too, or the root signed the leaf itself", async () => {
    expect(judge([good.leaf, good.intermediate, good.root], good.root).ok).toBe(true);
    const { root: keys } = await keysOfForge();
    const direct = await forgeChain({ leaf: { issuer: "CN=root", signWith: keys } });
    expect(judge([direct.leaf], direct.root).ok).toBe(true);
  });

  test("verifyChain() accepts one issuing node between the root and the intermediate", async () => {
    const { path, root } = await deepPath(1, {});
    expect(judge(path, root).ok).toBe(true);
  });

  const accepted: [name: string, row: string, forgeries: Parameters<typeof forgeChain>[0]][] = [
    [
      "DNS and other names beside the URI",
      "X-2",
      { leaf: { names: [dns("a.b"), url("spiffe://example.org/a"), { type: "ip", value: "10.0.0.1" }] } },
    ],
    ["an empty subject with critical names", "X-4", { leaf: { subject: "", namesCritical: true } }],
    ["no path length on the intermediate", "X-8", { intermediate: { constraints: { ca: true } } }],
    ["no basic constraints on the leaf", "X-8", { leaf: { constraints: null } }],
    ["no name constraints at all", "X-9", { intermediate: { nameConstraints: null } }],
    ["an intermediate that is no SVID", "X-5", { intermediate: { names: null } }],
    ["an intermediate that only signs certificates", "X-11", { intermediate: { usage: keyCertSign } }],
    ["keyEncipherment beside digitalSignature", "X-12", { leaf: { usage: digitalSignature | keyEncipherment } }],
    ["no extended key usage", "X-14", { leaf: { extendedUsage: null } }],
    ["an unknown extension that is not critical", "X-15", { leaf: { extra: [NULL_EXTENSION] } }],
    ["name constraints that permit a domain above", "X-15", { intermediate: { nameConstraints: permitUri(".org") } }],
    [
      "an excluded host that is another",
      "X-15",
      { intermediate: { nameConstraints: nameConstraintsDer({ excluded: ["example.com", ".example.org"] }) } },
    ],
    [
      "a DNS name inside DNS constraints",
      "X-15",
      {
        intermediate: { nameConstraints: nameConstraintsDer({ permitted: ["b"], tag: 0x82 }) },
        leaf: { names: [url("spiffe://example.org/a"), dns("a.b")] },
      },
    ],
    ["matching key identifiers", "X-15", { intermediate: { subjectKeyId: "0102" }, leaf: { authorityKeyId: "0102" } }],
    ["a start within the clock skew", "X-15", { leaf: { notBefore: START + CLOCK_SKEW_MAX_MS } }],
    ["an end at this very second", "X-15", { leaf: { notAfter: START } }],
    ["an end after 2050", "X-15", { leaf: { notAfter: Date.parse("2051-01-01T00:00:00Z") } }],
  ];
  test.each(accepted)("verifyChain() accepts %s (row %s)", async (_name, _row, forgeries) => {
    const answer = await judgeForged(forgeries ?? {});
    expect(answer.ok ? "" : answer.message).toBe("");
  });
});

describe("verifyChain() refuses", () => {
  const refused: [name: string, row: string, code: RefusalCode, forgeries: Parameters<typeof forgeChain>[0]][] = [
    ["no URI", "X-1", "leaf_names", { leaf: { names: [dns("a.b")] } }],
    ["no names", "X-1", "leaf_names", { leaf: { names: null } }],
    [
      "two URIs",
      "X-1",
      "leaf_names",
      { leaf: { names: [url("spiffe://example.org/a"), url("spiffe://example.org/b")] } },
    ],
    [
      "the same URI twice",
      "X-1",
      "leaf_names",
      { leaf: { names: [url("spiffe://example.org/a"), url("spiffe://example.org/a")] } },
    ],
    ["an ID without a path", "X-3", "leaf_spiffe_id", { leaf: { names: [url("spiffe://example.org")] } }],
    ["an ID with a trailing slash", "X-3", "leaf_spiffe_id", { leaf: { names: [url("spiffe://example.org/")] } }],
    ["an empty subject with names that are not critical", "X-4", "leaf_names", { leaf: { subject: "" } }],
    [
      "an issuer whose ID has a path",
      "X-5",
      "issuer_names",
      { intermediate: { names: [url("spiffe://example.org/node")] } },
    ],
    [
      "an issuer of another trust domain",
      "X-5",
      "issuer_names",
      { intermediate: { names: [url("spiffe://example.com")] } },
    ],
    [
      "an issuer with two URIs",
      "X-5",
      "issuer_names",
      { intermediate: { names: [url("spiffe://example.org"), url("spiffe://example.org")] } },
    ],
    ["a CA as leaf", "X-7", "leaf_is_ca", { leaf: { constraints: { ca: true } } }],
    ["an issuer without basic constraints", "X-8", "issuer_not_ca", { intermediate: { constraints: null } }],
    ["an issuer that is no CA", "X-8", "issuer_not_ca", { intermediate: { constraints: { ca: false } } }],
    [
      "an issuer whose basic constraints are not critical",
      "X-8",
      "issuer_not_ca",
      { intermediate: { constraints: { ca: true, critical: false } } },
    ],
    ["a leaf without key usage", "X-10", "leaf_key_usage", { leaf: { usage: null } }],
    ["a leaf whose key usage is not critical", "X-10", "leaf_key_usage", { leaf: { usageCritical: false } }],
    ["an issuer without key usage", "X-10", "issuer_key_usage", { intermediate: { usage: null } }],
    ["an issuer that may only sign CRLs", "X-11", "issuer_key_usage", { intermediate: { usage: cRLSign } }],
    ["a leaf without digitalSignature", "X-12", "leaf_key_usage", { leaf: { usage: keyEncipherment } }],
    [
      "a leaf that may sign certificates",
      "X-12",
      "leaf_key_usage",
      { leaf: { usage: digitalSignature | keyCertSign } },
    ],
    ["a leaf that may sign CRLs", "X-12", "leaf_key_usage", { leaf: { usage: digitalSignature | cRLSign } }],
    [
      "a server's extended key usage alone",
      "X-14",
      "extended_key_usage",
      { leaf: { extendedUsage: ["1.3.6.1.5.5.7.3.1"] } },
    ],
    ["any extended key usage", "X-14", "extended_key_usage", { leaf: { extendedUsage: ["2.5.29.37.0"] } }],
    ["an https URI", "X-16", "leaf_spiffe_id", { leaf: { names: [url("https://example.org/a")] } }],
    ["an upper-case trust domain", "X-16", "leaf_spiffe_id", { leaf: { names: [url("spiffe://EXAMPLE.org/a")] } }],
    ["a foreign trust domain", "A-10", "foreign_trust_domain", { leaf: { names: [url("spiffe://example.com/a")] } }],
    [
      "a trust domain that ends like ours",
      "A-10",
      "foreign_trust_domain",
      { leaf: { names: [url("spiffe://a.example.org/a")] } },
    ],
    ["a leaf that has expired", "X-15", "expired", { leaf: { notAfter: START - 1000 } }],
    ["an intermediate that has expired", "X-15", "expired", { intermediate: { notAfter: START - 1000 } }],
    ["a root that has expired", "X-15", "expired", { root: { notAfter: START - 1000 } }],
    [
      "a leaf that is not valid yet",
      "X-15",
      "not_yet_valid",
      { leaf: { notBefore: START + CLOCK_SKEW_MAX_MS + 1000 } },
    ],
    ["an intermediate that is not valid yet", "X-15", "not_yet_valid", { intermediate: { notBefore: START + HOUR } }],
    [
      "a URI host outside the constraints",
      "X-9",
      "name_constraint",
      { intermediate: { nameConstraints: permitUri("example.com") } },
    ],
    [
      "a URI host that only ends like the permitted one",
      "X-9",
      "name_constraint",
      { intermediate: { nameConstraints: permitUri("ample.org") } },
    ],
    [
      "a URI host that is the permitted parent itself",
      "X-9",
      "name_constraint",
      { intermediate: { nameConstraints: permitUri(".example.org") } },
    ],
    [
      "an excluded URI host",
      "X-9",
      "name_constraint",
      { intermediate: { nameConstraints: nameConstraintsDer({ excluded: ["example.org"] }) } },
    ],
    [
      "a URI host outside the root's constraints",
      "X-9",
      "name_constraint",
      { root: { nameConstraints: permitUri("example.com") } },
    ],
    [
      "a DNS name outside DNS constraints",
      "X-15",
      "name_constraint",
      {
        intermediate: { nameConstraints: nameConstraintsDer({ permitted: ["b"], tag: 0x82 }) },
        leaf: { names: [url("spiffe://example.org/a"), dns("a.c")] },
      },
    ],
    [
      "an excluded DNS name",
      "X-15",
      "name_constraint",
      {
        intermediate: { nameConstraints: nameConstraintsDer({ excluded: ["b"], tag: 0x82 }) },
        leaf: { names: [url("spiffe://example.org/a"), dns("a.b")] },
      },
    ],
    [
      "a form of constraint that is not processed",
      "X-15",
      "name_constraint",
      { intermediate: { nameConstraints: nameConstraintsDer({ permitted: ["a@b"], tag: 0x81 }) } },
    ],
    [
      "a constraint with a minimum",
      "X-15",
      "name_constraint",
      {
        intermediate: {
          nameConstraints: short(
            0x30,
            short(0xa0, short(0x30, short(0x86, Buffer.from("example.org")), short(0x80, Buffer.of(1)))),
          ),
        },
      },
    ],
    ["name constraints on a leaf", "X-15", "name_constraint", { leaf: { nameConstraints: permitUri("example.org") } }],
    [
      "an unknown critical extension of the leaf",
      "X-15",
      "critical_extension",
      { leaf: { extra: [new Extension("1.2.3.4", true, Uint8Array.of(5, 0))] } },
    ],
    [
      "an unknown critical extension of the intermediate",
      "X-15",
      "critical_extension",
      { intermediate: { extra: [new Extension("2.5.29.36", true, Uint8Array.of(0x30, 0))] } },
    ],
    ["an issuer of another name", "X-15", "issuer_mismatch", { leaf: { issuer: "CN=other" } }],
    [
      "an issuer of another key identifier",
      "X-15",
      "issuer_mismatch",
      { intermediate: { subjectKeyId: "0102" }, leaf: { authorityKeyId: "0103" } },
    ],
    ["a root of another name", "X-15", "unknown_root", { intermediate: { issuer: "CN=other" } }],
    ["SHA-1", "X-15", "algorithm_weak", { leaf: { algorithm: { name: "ECDSA", hash: "SHA-1" } } }],
    [
      "SHA-1 under the intermediate",
      "X-15",
      "algorithm_weak",
      { intermediate: { algorithm: { name: "ECDSA", hash: "SHA-1" } } },
    ],
  ];
  test.each(refused)("verifyChain() refuses %s (row %s) with %s", async (_name, _row, code, forgeries) => {
    expectRefusal(await judgeForged(forgeries ?? {}), code);
  });

  test("verifyChain() refuses leaf keys that are not P-256, and a signature of another kind than its issuer's key", async () => {
    const p384 = await makeKeys({ name: "ECDSA", namedCurve: "P-384" });
    const rsa = await makeKeys({
      name: "RSASSA-PKCS1-v1_5",
      hash: "SHA-256",
      modulusLength: 2048,
      publicExponent: Uint8Array.of(1, 0, 1),
    });
    expectRefusal(await judgeForged({ leaf: { keys: p384 } }), "key_type");
    expectRefusal(await judgeForged({ leaf: { keys: rsa } }), "key_type");
    expectRefusal(
      await judgeForged({ leaf: { signWith: rsa, algorithm: { name: "RSASSA-PKCS1-v1_5" } } }),
      "signature_wrong",
    );
  });

  test("verifyChain() refuses a leaf or intermediate that another key signed under the right name", async () => {
    const stranger = await makeKeys();
    expectRefusal(await judgeForged({ leaf: { signWith: stranger } }), "signature_wrong");
    expectRefusal(await judgeForged({ intermediate: { signWith: stranger } }), "signature_wrong");
  });

  test("verifyChain() refuses a chain of a stranger's root that names ours", async () => {
    const keys = await makeKeys();
    const theirs = await forgeChain({ root: { keys, signWith: keys } });
    expectRefusal(judge([theirs.leaf, theirs.intermediate, theirs.root], good.root), "signature_wrong");
    expectRefusal(judge([theirs.leaf, theirs.intermediate], good.root), "signature_wrong");
    expectRefusal(judge([good.leaf, good.intermediate], good.root, { anchors: [] }), "unknown_root");
  });

  test("verifyChain() refuses when a serial of the path is revoked", () => {
    for (const revoked of ["43", "42"]) {
      expectRefusal(
        judge([good.leaf, good.intermediate], good.root, { isRevoked: (serial) => serial === revoked }),
        "revoked",
      );
    }
  });

  test("verifyChain() refuses when the path length is exceeded or the path is too deep", async () => {
    const tooLong = await deepPath(1, { pathLength: 0 });
    expectRefusal(judge(tooLong.path, tooLong.root), "path_length");
    const rootBound = await deepPath(1, {}, { constraints: { ca: true, pathLength: 1 } });
    expectRefusal(judge(rootBound.path, rootBound.root), "path_length");
    const tooDeep = await deepPath(2, {});
    expectRefusal(judge(tooDeep.path, tooDeep.root), "chain_too_deep");
  });

  test("verifyChain() refuses an empty chain, more than 8 certificates and more than 16384 bytes", () => {
    expectRefusal(judge([], good.root), "chain_empty");
    expectRefusal(
      judge(
        Array.from({ length: 9 }, () => good.leaf),
        good.root,
      ),
      "chain_too_long",
    );
    expectRefusal(judge([good.leaf, new Uint8Array(16384)], good.root), "chain_too_long");
  });

  test("verifyChain() refuses a wrong order, a missing intermediate, a repeated leaf and certificates that belong elsewhere", () => {
    expectRefusal(judge([good.intermediate, good.leaf], good.root), "leaf_is_ca");
    expectRefusal(judge([good.root], good.root), "leaf_is_ca");
    expectRefusal(judge([good.leaf], good.root), "unknown_root");
    expectRefusal(judge([good.leaf, good.leaf, good.intermediate], good.root), "issuer_not_ca");
    expectRefusal(judge([good.leaf, good.root], good.root), "unknown_root");
    expectRefusal(judge([good.leaf, good.intermediate, good.intermediate], good.root), "issuer_mismatch");
  });

  test("verifyChain() answers with the alert of an internal error when the revocations cannot be read", () => {
    const isRevoked = () => {
      throw new Error("the disk is gone");
    };
    expectRefusal(judge([good.leaf, good.intermediate], good.root, { isRevoked }), "internal");
  });
});

/** Leaf, node, `extra` issuing nodes below the root; `issuing` changes the basic constraints of those. */
async function deepPath(
  extra: number,
  issuing: { pathLength?: number },
  root: Forgery = {},
): Promise<{ path: Uint8Array[]; root: Uint8Array }> {
  const shared = await keysOfForge();
  const chain = await forgeChain({ root });
  const issuers: Uint8Array[] = [];
  let above = { name: "CN=root", keys: shared.root };
  for (let i = 0; i < extra; i += 1) {
    const keys = await makeKeys(P256);
    const common: Forgery = { usage: keyCertSign, constraints: { ca: true, ...issuing }, notAfter: START + 10 * HOUR };
    issuers.unshift(
      await forge({
        ...common,
        subject: `CN=issuing-${i}`,
        issuer: above.name,
        keys,
        signWith: above.keys,
        serial: `5${i}`,
      }),
    );
    above = { name: `CN=issuing-${i}`, keys };
  }
  const below = await forgeChain({ root, intermediate: { issuer: above.name, signWith: above.keys } });
  return { path: [below.leaf, below.intermediate, ...issuers], root: chain.root };
}
