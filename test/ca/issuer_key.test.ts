// CAs with other keys than riprap's own, made by openssl: which of them may stand above a node or be another trust domain's, and which may not.

import { describe, expect, test } from "bun:test";
import { createPublicKey } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Authorities } from "../../src/ca/authorities.ts";
import { parseCertificate } from "../../src/ca/certificate.ts";
import { verifyChain } from "../../src/ca/chain.ts";
import { anchorsOf } from "../../src/ca/foreign.ts";
import { isSignedBy, issuerKeyFault } from "../../src/ca/issuer_key.ts";
import { publicKeysOf } from "../../src/ca.ts";
import { TrustDomain } from "../../src/spiffe_id.ts";
import { ManualClock } from "../manual_clock.ts";
import { scratchDirectories } from "../scratch.ts";
import { makeNode, makeWorkloadKey, openNode, openssl, pem } from "./authority_fixture.ts";
import { corporate, GOOD } from "./corporate.ts";

const scratch = scratchDirectories();
const PARTNER = TrustDomain.parse("partner.test");
const CA = "basicConstraints=critical,CA:TRUE";
const curve = (name: string) => ["ec", "-pkeyopt", `ec_paramgen_curve:${name}`];

const TAKEN: readonly (readonly [name: string, key: readonly string[], digest: readonly string[]])[] = [
  ["RSA 2048 with SHA-256", ["rsa:2048"], ["-sha256"]],
  ["RSA 3072 with SHA-384", ["rsa:3072"], ["-sha384"]],
  ["RSA 2048 with SHA-512", ["rsa:2048"], ["-sha512"]],
  ["P-384 with SHA-384", curve("P-384"), ["-sha384"]],
  ["P-384 with SHA-256", curve("P-384"), ["-sha256"]],
  ["P-256 with SHA-512", curve("P-256"), ["-sha512"]],
];
const PSS = ["-sha256", "-sigopt", "rsa_padding_mode:pss"];
const REFUSED: readonly (readonly [
  name: string,
  key: readonly string[],
  digest: readonly string[],
  sentence: string,
])[] = [
  ["RSA 1024", ["rsa:1024"], ["-sha256"], "an RSA key of 1024 bits"],
  ["RSA 2047", ["rsa:2047"], ["-sha256"], "an RSA key of 2047 bits"],
  ["RSA with the exponent 3", ["rsa:2048", "-pkeyopt", "rsa_keygen_pubexp:3"], ["-sha256"], "exponent"],
  ["SHA-1 by RSA", ["rsa:2048"], ["-sha1"], "signed with 1.2.840.113549.1.1.5"],
  ["SHA-1 by ECDSA", curve("P-256"), ["-sha1"], "signed with 1.2.840.10045.4.1"],
  ["SHA-224", curve("P-256"), ["-sha224"], "signed with 1.2.840.10045.4.3.1"],
  ["MD5", ["rsa:2048"], ["-md5"], "signed with 1.2.840.113549.1.1.4"],
  ["RSASSA-PSS", ["rsa:2048"], PSS, "signed with 1.2.840.113549.1.1.10 with parameters"],
  ["P-521", curve("P-521"), ["-sha512"], "neither P-256 nor P-384"],
  ["secp256k1", curve("secp256k1"), ["-sha256"], "holds a key"],
  ["Ed25519", ["ed25519"], [], "signed with 1.3.101.112"],
];

const made = new Map<string, string>();

/** One of each kind: those of RSA take seconds to make. PEM. */
function keyOf(kind: readonly string[]): string {
  const known = made.get(kind.join());
  if (known !== undefined) return known;
  const { folder } = corporate(CA, kind);
  const key = readFileSync(join(folder, "root.key"), "utf8");
  made.set(kind.join(), key);
  return key;
}

async function upstreamOf(key: readonly string[], digest: readonly string[]) {
  const node = await makeNode(scratch(), "example.org", new ManualClock(Date.now()));
  const authorities = new Authorities(node);
  const ca = corporate(CA, keyOf(key), digest);
  return { node, authorities, ca, chain: ca.sign(await authorities.request("intermediate"), GOOD) + ca.root };
}

/** An SVID of another trust domain whose CA openssl plays: the leaf, and the root of its bundle. */
function partnerOf(key: readonly string[], digest: readonly string[]): { leaf: Uint8Array; root: Uint8Array } {
  const ca = corporate(`${CA}\nsubjectAltName=URI:spiffe://partner.test`, keyOf(key), digest);
  const workload = makeWorkloadKey();
  const csr = ["req", "-new", "-key", "leaf.key", "-subj", "/O=Partner", "-out", "leaf.csr"];
  expect(openssl(ca.folder, { "leaf.key": workload.privatePem }, ...csr).code).toBe(0);
  const leaf = ca.sign(readFileSync(join(ca.folder, "leaf.csr"), "utf8"), [
    "basicConstraints=critical,CA:FALSE",
    "keyUsage=critical,digitalSignature",
    "extendedKeyUsage=serverAuth,clientAuth",
    "subjectAltName=URI:spiffe://partner.test/a",
  ]);
  return { leaf: bytesOf(leaf), root: bytesOf(ca.root) };
}

function bytesOf(text: string): Uint8Array {
  const [, body = ""] = /-----BEGIN CERTIFICATE-----([^-]+)-----END/.exec(text) ?? [];
  return Uint8Array.from(Buffer.from(body, "base64"));
}

function judge({ leaf, root }: { leaf: Uint8Array; root: Uint8Array }) {
  const bundle = { trustDomain: PARTNER, x509: [root], jwt: [], sequence: 1n, refreshHintSeconds: undefined };
  return verifyChain([leaf], {
    trustDomain: TrustDomain.parse("example.org"),
    anchors: [],
    now: Date.now(),
    isRevoked: () => false,
    foreignAnchors: () => anchorsOf(bundle),
  });
}

describe("a CA above the trust domain", () => {
  test.each(TAKEN)(
    "install() takes %s, and its SVIDs hold for openssl and for every node, also after a restart",
    async (_, key, digest) => {
      const { node, authorities, ca, chain } = await upstreamOf(key, digest);
      const { authority } = await authorities.install(chain);
      await authorities.activate(authority.id, { force: true });
      await node.clock.advance(10_000);
      const request = { spiffeId: "spiffe://example.org/app", lifetimeSeconds: 60, context: {} };
      const svid = node.authority.issueX509Svid({ ...request, publicKey: makeWorkloadKey().point });
      const [leaf, ...above] = svid.chain as [Uint8Array, ...Uint8Array[]];
      const files = { "leaf.pem": pem(leaf), "above.pem": pem(...above) };
      const at = ["-attime", String(Math.floor(node.clock.now() / 1000))];
      const verify = ["verify", ...at, "-x509_strict", "-CAfile", "root.pem", "-untrusted", "above.pem", "leaf.pem"];
      expect(openssl(ca.folder, files, ...verify)).toEqual({ code: 0, text: "leaf.pem: OK\n" });
      expect(node.authority.verifyPeerChain(svid.chain)).toMatchObject({ ok: true });
      // What the root says to a fleet is signed with its own key, and this one is not here.
      expect(publicKeysOf(node.authority.bundle)).toHaveLength(key[2] === "ec_paramgen_curve:P-256" ? 2 : 1);
      node.close();
      const again = openNode(node.stateDir, node.clock);
      expect(again.authority.verifyPeerChain(svid.chain)).toMatchObject({ ok: true });
      again.close();
    },
  );

  test.each(REFUSED)("install() refuses %s", async (_, key, digest, sentence) => {
    const { node, authorities, chain } = await upstreamOf(key, digest);
    await expect(authorities.install(chain)).rejects.toMatchObject({
      code: "upstream_chain_invalid",
      message: expect.stringContaining(sentence),
    });
    expect(node.authority.bundle).toHaveLength(1);
    node.close();
  });
});

describe("the CA of another trust domain", () => {
  test.each(TAKEN)("verifyChain() takes an SVID that it signed with %s", (_, key, digest) => {
    const answer = judge(partnerOf(key, digest));
    if (!answer.ok) throw new Error(answer.message);
    expect(String(answer.spiffeId)).toBe("spiffe://partner.test/a");
    expect(answer.publicKey).toHaveLength(65);
  });

  test.each(REFUSED)("verifyChain() refuses an SVID that it signed with %s", (_, key, digest) => {
    expect(judge(partnerOf(key, digest))).toMatchObject({ ok: false });
  });

  test("verifyChain() refuses what one bit of an RSA or P-384 signature is wrong in", () => {
    for (const [, key, digest] of [TAKEN[0], TAKEN[3]] as [(typeof TAKEN)[0], (typeof TAKEN)[0]]) {
      const { leaf, root } = partnerOf(key, digest);
      const forged = Uint8Array.from(leaf);
      forged[forged.length - 1] = (forged.at(-1) as number) ^ 1;
      expect(judge({ leaf: forged, root })).toMatchObject({ ok: false, code: "signature_wrong" });
    }
  });
});

describe("isSignedBy", () => {
  test("isSignedBy() takes no signature for one of another algorithm, hash or key", () => {
    const { leaf, root } = partnerOf(["rsa:2048"], ["-sha256"]);
    const other = partnerOf(curve("P-384"), ["-sha384"]);
    const [certificate, issuer, stranger] = [leaf, root, other.root].map(parseCertificate) as [
      ReturnType<typeof parseCertificate>,
      ReturnType<typeof parseCertificate>,
      ReturnType<typeof parseCertificate>,
    ];
    expect(isSignedBy(certificate, issuer)).toBe(true);
    expect(isSignedBy(certificate, stranger)).toBe(false);
    for (const signatureAlgorithm of ["1.2.840.113549.1.1.12", "1.2.840.10045.4.3.2", "1.2.840.113549.1.1.5", ""])
      expect(isSignedBy({ ...certificate, signatureAlgorithm }, issuer)).toBe(false);
    expect(isSignedBy(certificate, { spki: new Uint8Array() })).toBe(false);
    expect(issuerKeyFault({ spki: new Uint8Array(9) })).toBe("a key that cannot be read");
  });
});

describe("issuerKeyFault", () => {
  test.each([
    [2048, 65_537n, undefined],
    [4096, 0xffff_ffffn, undefined],
    [2040, 65_537n, "an RSA key of 2040 bits"],
    [4104, 65_537n, "an RSA key of 4104 bits"],
    [8192, 65_537n, "an RSA key of 8192 bits"],
    [2048, 3n, "exponent"],
    [2048, 0x1_0000_0001n, "exponent"],
  ])("issuerKeyFault() judges RSA of %s bits with the exponent %s", (bits, exponent, fact) => {
    // Whether its factors are two primes nobody sees.
    const modulus = Buffer.alloc(bits / 8, 0xa5).toString("base64url");
    const hex = exponent.toString(16);
    const e = Buffer.from(hex.padStart(2 * Math.ceil(hex.length / 2), "0"), "hex").toString("base64url");
    const key = createPublicKey({ key: { kty: "RSA", n: modulus, e }, format: "jwk" });
    const fault = issuerKeyFault({ spki: key.export({ format: "der", type: "spki" }) });
    if (fact === undefined) expect(fault).toBeUndefined();
    else expect(fault).toContain(fact);
  });
});
