// CRLs, held against openssl and @peculiar/x509, and against bytes that are none.

import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { X509Crl } from "@peculiar/x509";
import { parseCertificate } from "../../src/ca/certificate.ts";
import { type CrlContent, parseCrl, requireCrl, writeCrl } from "../../src/ca/crl.ts";
import { checkCrl } from "../../src/ca/crl_check.ts";
import { der, derOid, derTime, TAG } from "../../src/ca/der.ts";
import { openKeyStore } from "../../src/ca/key_store.ts";
import { scratchDirectories } from "../scratch.ts";
import { makeNode, makeWorkloadKey, type Node, openNode, openssl, pem } from "./authority_fixture.ts";

const scratch = scratchDirectories();
const HOUR = 3_600_000;
const workload = makeWorkloadKey();
const issue = (node: Node) =>
  node.authority.issueX509Svid({
    ...{ spiffeId: "spiffe://example.org/app", publicKey: workload.point, lifetimeSeconds: 3600, context: {} },
  });
const crlPem = (crl: Uint8Array) =>
  `-----BEGIN X509 CRL-----\n${Buffer.from(crl)
    .toString("base64")
    .replace(/.{64}(?=.)/g, "$&\n")}\n-----END X509 CRL-----\n`;
const numberOf = (node: Node) => parseCrl(node.authority.crl()).number;

/** The node's intermediate and its key, to sign CRLs of the test's own. */
function issuerOf(node: Node) {
  const { chain } = issue(node);
  return { issuer: parseCertificate(chain[1] as Uint8Array), key: openKeyStore(node.stateDir).openKey("node") };
}

describe("crl", () => {
  test("crl() is one that openssl verifies, and by which it refuses what was revoked alone", async () => {
    const node = await makeNode(scratch());
    const [good, bad] = [issue(node), issue(node)];
    node.authority.revoke(bad.serial, "the process ended");
    const crl = node.authority.crl();
    const files = {
      "crl.pem": crlPem(crl),
      "root.pem": pem(...node.authority.bundle),
      "node.pem": pem(good.chain[1] as Uint8Array),
      "good.pem": pem(good.chain[0] as Uint8Array),
      "bad.pem": pem(bad.chain[0] as Uint8Array),
    };
    const folder = scratch();
    const time = ["-attime", String(node.clock.now() / 1000)];
    expect(openssl(folder, files, "crl", "-in", "crl.pem", "-CAfile", "node.pem", "-noout", "-verify").text).toContain(
      "verify OK",
    );
    const text = openssl(folder, files, "crl", "-in", "crl.pem", "-noout", "-text").text;
    expect(text).toContain(bad.serial.toUpperCase());
    expect(text).not.toContain(good.serial.toUpperCase());
    expect(text).toContain("Cessation Of Operation");
    const check = (leaf: string) =>
      openssl(
        folder,
        files,
        "verify",
        ...time,
        "-crl_check",
        "-CRLfile",
        "crl.pem",
        "-CAfile",
        "root.pem",
        "-untrusted",
        "node.pem",
        leaf,
      );
    expect(check("good.pem")).toMatchObject({ code: 0 });
    expect(check("bad.pem").text).toContain("certificate revoked");
    const other = new X509Crl(Uint8Array.from(crl));
    expect(other.entries.map(({ serialNumber }) => serialNumber.toLowerCase())).toEqual([bad.serial]);
    expect(other.nextUpdate?.getTime()).toBe(node.clock.now() + 24 * HOUR);
    node.close();
  });

  test("crl() keeps its number while nothing changes, and lets it grow with a revocation, with time, and over restarts", async () => {
    const node = await makeNode(scratch());
    const svid = issue(node);
    expect([numberOf(node), numberOf(node)]).toEqual([1n, 1n]);
    node.authority.revoke(svid.serial, "compromise");
    expect(numberOf(node)).toBe(2n);
    await node.clock.advance(12 * HOUR);
    expect(numberOf(node)).toBe(3n);
    node.close();
    const again = openNode(node.stateDir, node.clock);
    expect(numberOf(again)).toBe(3n);
    again.clock.set(node.clock.now() - HOUR);
    expect(numberOf(again)).toBe(4n);
    again.close();
  });

  test("crl() forgets what has ended, and holds nothing of another issuer's", async () => {
    const node = await makeNode(scratch());
    node.authority.revoke(issue(node).serial, "x");
    node.authority.revoke("41", "of another node");
    expect(parseCrl(node.authority.crl()).serials.size).toBe(1);
    await node.clock.advance(2 * HOUR);
    expect(parseCrl(node.authority.crl()).serials.size).toBe(0);
    node.close();
  });
});

describe("requireCrl", () => {
  const build = async (over: Partial<CrlContent> = {}) => {
    const node = await makeNode(scratch());
    const { issuer, key } = issuerOf(node);
    const now = node.clock.now();
    const crl = parseCrl(
      writeCrl({ number: 7n, thisUpdate: now, nextUpdate: now + HOUR, revoked: [], ...over }, issuer, key),
    );
    node.close();
    return { crl, issuer, now };
  };

  test("requireCrl() takes a CRL in force of its issuer", async () => {
    const { crl, issuer, now } = await build();
    expect(() => requireCrl(crl, { issuer, now, lastNumber: 7n })).not.toThrow();
  });

  test.each([
    ["a lower number than the last", {}, { lastNumber: 8n }, "lower than 8"],
    ["one that has ended", {}, { later: 2 * HOUR }, "fetch the next one"],
    ["one that has not begun", {}, { later: -2 * HOUR }, "check both clocks"],
  ])(
    "requireCrl() refuses %s",
    async (_, over, { later = 0, ...context }: { later?: number; lastNumber?: bigint }, sentence) => {
      const { crl, issuer, now } = await build(over);
      expect(() => requireCrl(crl, { issuer, now: now + later, ...context })).toThrow(sentence);
    },
  );

  test.each([
    [
      "another issuer's",
      (i: ReturnType<typeof parseCertificate>) => ({ ...i, subject: Uint8Array.of(0x30, 0) }),
      "another issuer",
    ],
    [
      "another key's",
      (i: ReturnType<typeof parseCertificate>) => ({ ...i, subjectKeyId: new Uint8Array(20) }),
      "another key",
    ],
    [
      "one of a CA without cRLSign",
      (i: ReturnType<typeof parseCertificate>) => ({ ...i, keyUsage: new Set([5]) }),
      "may not sign CRLs",
    ],
    ["one of no CA", (i: ReturnType<typeof parseCertificate>) => ({ ...i, ca: false }), "may not sign CRLs"],
    [
      "a forged one",
      (i: ReturnType<typeof parseCertificate>) => ({ ...i, publicKey: makeWorkloadKey().point }),
      "not signed by the key",
    ],
  ])("requireCrl() refuses %s", async (_, change, sentence) => {
    const { crl, issuer, now } = await build();
    expect(() => requireCrl(crl, { issuer: change(issuer), now })).toThrow(sentence);
  });

  test("requireCrl() refuses a weak algorithm", async () => {
    const { crl, issuer, now } = await build();
    expect(() => requireCrl({ ...crl, signatureAlgorithm: "1.2.840.113549.1.1.5" }, { issuer, now })).toThrow(
      "only ECDSA",
    );
  });
});

describe("checkCrl", () => {
  const check = (node: Node, crl: string, issuer?: string) =>
    checkCrl({ stateDir: node.stateDir, clock: node.clock, crl, ...(issuer === undefined ? {} : { issuer }) });

  test("checkCrl() says what a CRL of this node lists, and of another CA of the trust domain by its certificates", async () => {
    const node = await makeNode(scratch());
    const bad = issue(node);
    node.authority.revoke(bad.serial, "a test");
    const crl = crlPem(node.authority.crl());
    const { number, revoked } = check(node, crl);
    expect(number).toBe("1");
    expect(revoked).toEqual([{ serial: bad.serial, revokedAt: new Date(node.clock.now()).toISOString() }]);
    expect(check(node, crl, pem(bad.chain[1] as Uint8Array)).revoked).toHaveLength(1);
  });

  test("checkCrl() refuses a CRL that is not whole, not signed so, over, or of a CA that is none of the trust domain", async () => {
    const [node, other] = [await makeNode(scratch()), await makeNode(scratch())];
    const bytes = node.authority.crl();
    const crl = crlPem(bytes);
    const spoiled = Uint8Array.from(bytes).fill((bytes.at(-1) as number) ^ 1, -1);
    const foreign = pem(issue(other).chain[1] as Uint8Array);
    expect(() => check(node, crl.slice(0, -60))).toThrow("it is not one CRL in PEM");
    expect(() => check(node, crl + crl)).toThrow("it is not one CRL in PEM");
    expect(() => check(node, crlPem(bytes.subarray(0, 100)))).toThrow("Cannot read");
    expect(() => check(node, crlPem(spoiled))).toThrow("it is not signed by the key of its issuer");
    expect(() => check(node, crlPem(other.authority.crl()))).toThrow("Cannot take the CRL: it names another");
    expect(() => check(node, crl, foreign)).toThrow("its issuer is no CA of example.org");
    expect(() => check(node, crl, pem(issue(node).chain[0] as Uint8Array))).toThrow("its issuer is no CA");
    node.clock.set(node.clock.now() + 25 * HOUR);
    expect(() => check(node, crl)).toThrow("it ended at");
  });
});

describe("parseCrl", () => {
  const algorithm = der(TAG.sequence, derOid("1.2.840.10045.4.3.2"));
  const name = der(TAG.sequence);
  const at = derTime(Date.parse("2026-11-21T12:00:00Z"));
  const later = derTime(Date.parse("2026-11-22T12:00:00Z"));
  const extension = (oid: string, value: Uint8Array, critical = false) =>
    der(
      TAG.sequence,
      derOid(oid),
      ...(critical ? [der(TAG.boolean, Uint8Array.of(0xff))] : []),
      der(TAG.octetString, value),
    );
  const number = extension("2.5.29.20", der(TAG.integer, Uint8Array.of(1)));
  const list = (...extensions: Uint8Array[]) => der(0xa0, der(TAG.sequence, ...extensions));
  const version = der(TAG.integer, Uint8Array.of(1));
  const crl = (...fields: Uint8Array[]) =>
    der(TAG.sequence, der(TAG.sequence, ...fields), algorithm, der(TAG.bitString, Uint8Array.of(0, 1)));
  const head = [version, algorithm, name, at];
  const revoked = (serial: number, ...more: Uint8Array[]) =>
    der(TAG.sequence, der(TAG.integer, Uint8Array.of(serial)), at, ...more);

  test.each([
    ["version 1", [algorithm, name, at, later], "version 2"],
    ["no nextUpdate", [...head, list(number)], "when the next one comes"],
    ["a nextUpdate before it", [version, algorithm, name, later, at, list(number)], "come before it"],
    ["no number", [...head, later], "no CRL number"],
    [
      "a critical extension (a delta CRL)",
      [...head, later, list(number, extension("2.5.29.27", der(TAG.integer, Uint8Array.of(1)), true))],
      "2.5.29.27",
    ],
    ["an extension twice", [...head, later, list(number, number)], "twice"],
    [
      "a negative number",
      [...head, later, list(extension("2.5.29.20", der(TAG.integer, Uint8Array.of(0x80))))],
      "negative",
    ],
    ["an empty list", [...head, later, der(TAG.sequence), list(number)], "empty"],
    ["a serial twice", [...head, later, der(TAG.sequence, revoked(5), revoked(5)), list(number)], "twice"],
    [
      "an entry of another issuer (an indirect CRL)",
      [
        ...head,
        later,
        der(TAG.sequence, revoked(5, der(TAG.sequence, extension("2.5.29.29", name, true)))),
        list(number),
      ],
      "2.5.29.29",
    ],
    [
      "another algorithm inside",
      [version, der(TAG.sequence, derOid("1.2.3")), name, at, later, list(number)],
      "two signature algorithms",
    ],
    ["something after it", [...head, later, list(number), version], "after the last element"],
  ])("parseCrl() refuses %s", (_, fields, sentence) => {
    expect(() => parseCrl(crl(...(fields as Uint8Array[])))).toThrow(sentence);
  });

  test("parseCrl() reads what openssl wrote", () => {
    const folder = scratch();
    const config =
      "[ca]\ndefault_ca=d\n[d]\ndatabase=index.txt\ncrlnumber=number\ndefault_md=sha256\ncrl_extensions=e\n[e]\nauthorityKeyIdentifier=keyid\n";
    openssl(
      folder,
      {},
      "req",
      "-x509",
      "-newkey",
      "ec",
      "-pkeyopt",
      "ec_paramgen_curve:P-256",
      "-nodes",
      "-keyout",
      "ca.key",
      "-out",
      "ca.pem",
      "-subj",
      "/CN=ca",
      "-days",
      "9",
    );
    const files = {
      "ca.cnf": config,
      "index.txt": "R\t351121120000Z\t261121120000Z,keyCompromise\t0ABC\tunknown\t/CN=x\n",
      number: "01FF\n",
    };
    const made = openssl(
      folder,
      files,
      "ca",
      "-config",
      "ca.cnf",
      "-gencrl",
      "-keyfile",
      "ca.key",
      "-cert",
      "ca.pem",
      "-crlhours",
      "2",
      "-out",
      "crl.pem",
    );
    expect(made.code).toBe(0);
    expect(openssl(folder, {}, "crl", "-in", "crl.pem", "-outform", "DER", "-out", "crl.der").code).toBe(0);
    const read = parseCrl(new Uint8Array(readFileSync(`${folder}/crl.der`)));
    expect([...read.serials.keys()]).toEqual(["0abc"]);
    expect(read.number).toBe(0x1ffn);
  });

  test("parseCrl() throws nothing but refusals, whatever the bytes (seeded)", async () => {
    const node = await makeNode(scratch());
    for (let i = 0; i < 5; i += 1) node.authority.revoke(issue(node).serial, "compromise");
    const good = node.authority.crl();
    let seed = 20261122;
    const random = (below: number) => {
      seed = (Math.imul(seed, 1_103_515_245) + 12_345) & 0x7fff_ffff;
      return (seed >>> 8) % below;
    };
    let refused = 0;
    for (let round = 0; round < 3000; round += 1) {
      const bytes = Uint8Array.from(good.subarray(0, random(4) === 0 ? random(good.length) : good.length));
      for (let edits = random(4) + 1; edits > 0 && bytes.length > 0; edits -= 1)
        bytes[random(bytes.length)] = random(256);
      try {
        parseCrl(bytes);
      } catch (thrown) {
        refused += 1;
        expect(["crl_malformed", "der_malformed"]).toContain((thrown as { code: string }).code);
      }
    }
    expect(refused).toBeGreaterThan(1000);
    expect(() => parseCrl(new Uint8Array((8 << 20) + 1))).toThrow("longer than 8 MiB");
    node.close();
  });
});
