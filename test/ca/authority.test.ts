import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import {
  AuthorityKeyIdentifierExtension,
  BasicConstraintsExtension,
  SubjectKeyIdentifierExtension,
  X509Certificate,
} from "@peculiar/x509";
import { BACKDATE_MS } from "../../src/ca/root.ts";
import { bundlePem, issueForPublicKey, type SvidRequest } from "../../src/ca.ts";
import { SpiffeId } from "../../src/spiffe_id.ts";
import { draw, pick, random } from "../random.ts";
import { scratchDirectories } from "../scratch.ts";
import { makeNode, makeWorkloadKey, type Node, openNode, openssl, pem } from "./authority_fixture.ts";

const scratch = scratchDirectories();
const workload = makeWorkloadKey();
const DAY = 24 * 3600 * 1000;
let node: Node;

beforeAll(async () => {
  node = await makeNode(scratch());
});
afterAll(() => node.close());

function request(changes: Partial<SvidRequest> = {}): SvidRequest {
  return {
    spiffeId: "spiffe://example.org/web",
    publicKey: workload.point,
    lifetimeSeconds: 3600,
    context: { pid: 1 },
    ...changes,
  };
}

describe("issueX509Svid()", () => {
  test("issueX509Svid() gives a chain that openssl verifies for both ends of TLS, with strict checks", () => {
    const { chain } = node.authority.issueX509Svid(request({ dnsNames: ["web.example.org"] }));
    const files = {
      "leaf.pem": pem(chain[0] as Uint8Array),
      "node.pem": pem(chain[1] as Uint8Array),
      "root.pem": pem(...node.authority.bundle),
    };
    const at = String(Math.floor(node.clock.now() / 1000));
    for (const purpose of ["sslserver", "sslclient"]) {
      const words = [
        "-x509_strict",
        "-purpose",
        purpose,
        "-attime",
        at,
        "-CAfile",
        "root.pem",
        "-untrusted",
        "node.pem",
        "leaf.pem",
      ];
      expect(openssl(node.stateDir, files, "verify", ...words)).toEqual({ code: 0, text: "leaf.pem: OK\n" });
    }
    const other = String(Math.floor(node.clock.now() / 1000) + 3601);
    expect(
      openssl(
        node.stateDir,
        files,
        "verify",
        "-attime",
        other,
        "-CAfile",
        "root.pem",
        "-untrusted",
        "node.pem",
        "leaf.pem",
      ).text,
    ).toContain("expired");
  });

  test("issueX509Svid() gives an SVID that openssl reads as rows X-1, X-3, X-4, X-8, X-10, X-12 and X-14 want it", () => {
    const { chain, serial } = node.authority.issueX509Svid(request({ dnsNames: ["web.example.org", "web"] }));
    const { text } = openssl(
      node.stateDir,
      { "leaf.pem": pem(chain[0] as Uint8Array) },
      "x509",
      "-in",
      "leaf.pem",
      "-noout",
      "-text",
    );
    const flat = text.replace(/\s+/g, " ");
    expect(flat).toContain("Version: 3 (0x2)");
    expect(flat).toContain(`Serial Number: ${serial.replace(/..(?=.)/g, "$&:")} `);
    expect(flat).toContain("Signature Algorithm: ecdsa-with-SHA256");
    expect(flat).toContain("Subject: Subject Public Key Info");
    expect(flat).toContain(
      "X509v3 Subject Alternative Name: critical URI:spiffe://example.org/web, DNS:web.example.org, DNS:web ",
    );
    expect(flat).toContain("X509v3 Key Usage: critical Digital Signature X509v3");
    expect(flat).toContain("X509v3 Extended Key Usage: TLS Web Server Authentication, TLS Web Client Authentication");
    expect(flat).toContain("X509v3 Basic Constraints: critical CA:FALSE");
    expect(flat).toContain("X509v3 Subject Key Identifier");
    expect(flat).toContain("X509v3 Authority Key Identifier");
  });

  test("issueX509Svid() gives what @peculiar/x509 reads back field by field, whatever is asked", async () => {
    const next = random(0xca11);
    const issuer = new X509Certificate(Uint8Array.from(node.authority.issueX509Svid(request()).chain[1] as Uint8Array));
    for (let i = 0; i < 60; i += 1) {
      const segments = Array.from({ length: 1 + draw(next, 4) }, () =>
        pick(next, ["a", "web-1", "X_y.z", "1", "b".repeat(draw(next, 400) + 1)]),
      );
      const spiffeId = SpiffeId.parse(`spiffe://example.org/${segments.join("/")}`);
      const dnsNames = Array.from(
        { length: draw(next, 17) },
        (_, k) => `${"n".repeat(1 + draw(next, 60))}${k}.example.org`,
      );
      const lifetimeSeconds = 1 + draw(next, 86400);
      const key = pick(next, [workload, makeWorkloadKey()]);
      const issued = node.authority.issueX509Svid({
        spiffeId,
        publicKey: key.point,
        lifetimeSeconds,
        dnsNames,
        context: {},
      });
      const leaf = new X509Certificate(Uint8Array.from(issued.chain[0] as Uint8Array));
      expect(await leaf.verify({ publicKey: issuer.publicKey, signatureOnly: true })).toBe(true);
      expect(leaf.serialNumber).toBe(issued.serial);
      expect(leaf.notAfter.getTime()).toBe(node.clock.now() + lifetimeSeconds * 1000);
      expect([leaf.notBefore, leaf.notAfter]).toEqual([issued.notBefore, issued.notAfter]);
      const names = leaf.extensions.find((extension) => extension.type === "2.5.29.17") as unknown as {
        names: { items: { type: string; value: string }[] };
      };
      expect(names.names.items.map(({ type, value }) => [type, value])).toEqual([
        ["url", spiffeId.toString()],
        ...dnsNames.map((name) => ["dns", name]),
      ]);
      expect(Buffer.from(leaf.publicKey.rawData).subarray(-65)).toEqual(Buffer.from(key.point));
      expect(leaf.getExtension(BasicConstraintsExtension)?.ca).toBe(false);
      expect(leaf.getExtension(AuthorityKeyIdentifierExtension)?.keyId).toBe(
        issuer.getExtension(SubjectKeyIdentifierExtension)?.keyId as string,
      );
      expect(node.authority.verifyPeerChain(issued.chain)).toMatchObject({ ok: true, notAfter: issued.notAfter });
    }
  });

  test("issueX509Svid() backdates the start by a minute, but not before its issuer's", async () => {
    const fresh = await makeNode(scratch());
    const start = fresh.clock.now();
    expect(fresh.authority.issueX509Svid(request()).notBefore.getTime()).toBe(start - BACKDATE_MS);
    await fresh.clock.advance(-30_000);
    expect(fresh.authority.issueX509Svid(request()).notBefore.getTime()).toBe(start - BACKDATE_MS);
    await fresh.clock.advance(3_600_999);
    const later = fresh.authority.issueX509Svid(request());
    expect(later.notBefore.getTime()).toBe(start + 3_570_000 - BACKDATE_MS);
    expect(later.notAfter.getTime()).toBe(start + 3_570_000 + 3_600_000);
    fresh.close();
  });

  test("issueX509Svid() lets no SVID outlive the intermediate, and issues none after its end or before its start", async () => {
    const fresh = await makeNode(scratch());
    const start = fresh.clock.now();
    fresh.clock.set(start + 365 * DAY - 60_000);
    expect(fresh.authority.issueX509Svid(request()).notAfter.getTime()).toBe(start + 365 * DAY);
    expect(fresh.authority.info().warnings.join()).toContain("enrol the node again before that");
    fresh.clock.set(start + 365 * DAY);
    expect(() => fresh.authority.issueX509Svid(request())).toThrow(
      /^Cannot issue an SVID: this node's intermediate is valid from/,
    );
    expect(fresh.authority.info().warnings.join()).toContain("it issues nothing");
    fresh.clock.set(start - BACKDATE_MS - 1);
    expect(() => fresh.authority.issueX509Svid(request())).toThrow("set the clock");
    fresh.close();
  });

  test("issueX509Svid() never gives two certificates one serial, and serials are positive, of 20 octets and rise with time", async () => {
    const fresh = await makeNode(scratch());
    const serials: string[] = [];
    for (let second = 0; second < 5; second += 1) {
      const many = fresh.authority.issueX509Svids(Array.from({ length: 300 }, () => request()));
      serials.push(...many.map(({ serial }) => serial).sort());
      await fresh.clock.advance(1000);
    }
    expect(new Set(serials).size).toBe(1500);
    expect(serials.toSorted()).toEqual(serials);
    for (const serial of serials) expect(serial).toMatch(/^[4-7][0-9a-f]{39}$/);
    fresh.close();
  });

  const off = Uint8Array.from(workload.point);
  off[64] = (off[64] as number) ^ 1;
  const refused: [name: string, code: string, changes: Partial<SvidRequest>][] = [
    ["a foreign trust domain", "svid_refused", { spiffeId: "spiffe://example.com/web" }],
    ["a trust domain below ours", "svid_refused", { spiffeId: "spiffe://a.example.org/web" }],
    ["an ID without a path (row X-3)", "svid_refused", { spiffeId: "spiffe://example.org" }],
    ["a malformed ID", "spiffe_id_invalid", { spiffeId: "spiffe://example.org/a/../b" }],
    [
      "an ID of more than 2048 bytes (row ID-13)",
      "spiffe_id_invalid",
      { spiffeId: `spiffe://example.org/${"a".repeat(2048)}` },
    ],
    ["a key of 64 bytes", "public_key_invalid", { publicKey: workload.point.slice(0, 64) }],
    ["a key of 66 bytes", "public_key_invalid", { publicKey: Buffer.concat([workload.point, Buffer.of(0)]) }],
    [
      "a compressed key",
      "public_key_invalid",
      { publicKey: Buffer.concat([Buffer.of(2), workload.point.slice(1, 33)]) },
    ],
    ["a point off the curve", "public_key_invalid", { publicKey: off }],
    ["the point of all zeros", "public_key_invalid", { publicKey: Buffer.concat([Buffer.of(4), Buffer.alloc(64)]) }],
    [
      "coordinates at the field's end",
      "public_key_invalid",
      { publicKey: Buffer.concat([Buffer.of(4), Buffer.alloc(64, 0xff)]) },
    ],
    ["no lifetime", "lifetime_invalid", { lifetimeSeconds: 0 }],
    ["a negative lifetime", "lifetime_invalid", { lifetimeSeconds: -1 }],
    ["half a second", "lifetime_invalid", { lifetimeSeconds: 0.5 }],
    ["no number", "lifetime_invalid", { lifetimeSeconds: Number.NaN }],
    ["more than a day", "lifetime_invalid", { lifetimeSeconds: 86401 }],
    ["an empty DNS name", "dns_name_invalid", { dnsNames: [""] }],
    ["a wildcard", "dns_name_invalid", { dnsNames: ["*.example.org"] }],
    ["an upper-case DNS name", "dns_name_invalid", { dnsNames: ["Web.example.org"] }],
    ["a DNS name with a space", "dns_name_invalid", { dnsNames: ["a b"] }],
    ["a DNS name with a trailing dot", "dns_name_invalid", { dnsNames: ["a."] }],
    ["a label of 64", "dns_name_invalid", { dnsNames: ["a".repeat(64)] }],
    ["17 DNS names", "dns_name_invalid", { dnsNames: Array.from({ length: 17 }, () => "a") }],
  ];
  test.each(refused)(
    "issueX509Svid() refuses %s with %s and leaves no entry in the journal",
    (_name, code, changes) => {
      const before = node.authority.info().journal.svids;
      expect(() => node.authority.issueX509Svid(request(changes))).toThrow(expect.objectContaining({ code }));
      expect(node.authority.info().journal.svids).toBe(before);
    },
  );

  test("issueX509Svids() issues all or none, and nothing is journaled when one is refused", () => {
    const before = node.authority.info().journal.svids;
    expect(() => node.authority.issueX509Svids([request(), request({ lifetimeSeconds: 0 })])).toThrow("lifetime");
    expect(node.authority.info().journal.svids).toBe(before);
    expect(node.authority.issueX509Svids([])).toEqual([]);
    expect(node.authority.issueX509Svids([request(), request()])).toHaveLength(2);
    expect(node.authority.info().journal.svids).toBe(before + 2);
  });

  test("issueX509Svid() signs nothing when the journal cannot be written", async () => {
    const fresh = await makeNode(scratch());
    fresh.store.close();
    expect(() => fresh.authority.issueX509Svid(request())).toThrow();
  });

  test("issueX509Svid() takes a copy of the key before it checks it", () => {
    const mine = Uint8Array.from(workload.point);
    const sneaky = {
      ...request(),
      get context() {
        mine.fill(0);
        return {};
      },
      publicKey: mine,
    };
    const { chain } = node.authority.issueX509Svid(sneaky);
    expect(node.authority.verifyPeerChain(chain)).toMatchObject({
      ok: true,
      publicKey: Uint8Array.from(workload.point),
    });
  });

  test("issueX509Svid() throws when the CA is closed", async () => {
    const fresh = await makeNode(scratch());
    fresh.authority.close();
    expect(() => fresh.authority.issueX509Svid(request())).toThrow(TypeError);
    fresh.store.close();
  });
});

describe("revoke()", () => {
  test("revoke() makes verifyPeerChain() refuse from then on, also after a restart, and the first reason stays", async () => {
    const fresh = await makeNode(scratch());
    const { serial, chain } = fresh.authority.issueX509Svid(request());
    expect(fresh.authority.verifyPeerChain(chain).ok).toBe(true);
    expect(fresh.authority.isRevoked(serial)).toBe(false);
    expect(fresh.authority.revoke(serial, "process exited")).toBe("revoked");
    expect(fresh.authority.revoke(serial, "again")).toBe("already_revoked");
    expect(fresh.authority.verifyPeerChain(chain)).toMatchObject({ ok: false, code: "revoked", alert: 44 });
    expect(fresh.store.prepare<{ reason: string }>("SELECT reason FROM ca_revocation").all()).toEqual([
      { reason: "process exited" },
    ]);
    fresh.close();
    const again = openNode(fresh.stateDir, fresh.clock);
    expect(again.authority.isRevoked(serial)).toBe(true);
    expect(again.authority.verifyPeerChain(chain)).toMatchObject({ ok: false, code: "revoked" });
    again.close();
  });

  test("revoke() takes a serial that another node signed", () => {
    expect(node.authority.revoke("0a0b0c", "told by another node")).toBe("revoked");
    expect(node.authority.isRevoked("0a0b0c")).toBe(true);
  });

  test("revoke() of the node's intermediate ends what it signed and stops issuing", async () => {
    const fresh = await makeNode(scratch());
    const { chain } = fresh.authority.issueX509Svid(request());
    fresh.authority.revoke(fresh.authority.info().issuer.serial, "node lost");
    expect(fresh.authority.verifyPeerChain(chain)).toMatchObject({ ok: false, code: "revoked" });
    expect(() => fresh.authority.issueX509Svid(request())).toThrow(expect.objectContaining({ code: "issuer_revoked" }));
    fresh.close();
  });

  test.each(["", "0", "0A", "xyz", "0".repeat(42), "00 01"])(
    "revoke() and isRevoked() refuse when the serial is %p",
    (serial) => {
      expect(() => node.authority.revoke(serial, "x")).toThrow(expect.objectContaining({ code: "serial_invalid" }));
      expect(() => node.authority.isRevoked(serial)).toThrow(expect.objectContaining({ code: "serial_invalid" }));
    },
  );
});

describe("verifyPeerChain()", () => {
  test("verifyPeerChain() refuses the chain of another trust domain, of the same name or not", async () => {
    const namesake = await makeNode(scratch());
    const foreign = await makeNode(scratch(), "example.com");
    const theirs = namesake.authority.issueX509Svid(request()).chain;
    expect(node.authority.verifyPeerChain(theirs)).toMatchObject({ ok: false, code: "unknown_root", alert: 48 });
    expect(node.authority.verifyPeerChain([...theirs, ...namesake.authority.bundle])).toMatchObject({
      ok: false,
      code: "unknown_root",
    });
    const others = foreign.authority.issueX509Svid(request({ spiffeId: "spiffe://example.com/web" })).chain;
    expect(node.authority.verifyPeerChain(others)).toMatchObject({
      ok: false,
      code: "foreign_trust_domain",
      alert: 48,
    });
    namesake.close();
    foreign.close();
  });

  test("verifyPeerChain() follows the clock", async () => {
    const fresh = await makeNode(scratch());
    const { chain } = fresh.authority.issueX509Svid(request({ lifetimeSeconds: 20 }));
    await fresh.clock.advance(20_000);
    expect(fresh.authority.verifyPeerChain(chain).ok).toBe(true);
    await fresh.clock.advance(1);
    expect(fresh.authority.verifyPeerChain(chain)).toMatchObject({ ok: false, code: "expired", alert: 45 });
    fresh.close();
  });
});

describe("issueForPublicKey()", () => {
  test("issueForPublicKey() gives an openssl peer a chain that fits its key", () => {
    const answer = issueForPublicKey(node.authority, {
      spiffeId: "spiffe://example.org/peer",
      publicKeyPem: workload.publicPem,
      lifetimeSeconds: 60,
      context: {},
    });
    const files = { "chain.pem": answer.chainPem, "root.pem": bundlePem(node.authority) };
    const at = String(Math.floor(node.clock.now() / 1000));
    const words = ["-attime", at, "-CAfile", "root.pem", "-untrusted", "chain.pem", "chain.pem"];
    expect(openssl(node.stateDir, files, "verify", ...words).text).toBe("chain.pem: OK\n");
    expect(openssl(node.stateDir, files, "x509", "-in", "chain.pem", "-noout", "-pubkey").text).toBe(
      workload.publicPem,
    );
  });

  test.each([
    ["a P-384 key", makeWorkloadKey("P-384").publicPem],
    ["a private key", workload.privatePem],
    ["nothing", ""],
    ["rubbish", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"],
    ["too much", `-----BEGIN PUBLIC KEY-----\n${"A".repeat(5000)}`],
  ])("issueForPublicKey() refuses %s", (_name, publicKeyPem) => {
    const ask = { spiffeId: "spiffe://example.org/peer", publicKeyPem, lifetimeSeconds: 60, context: {} };
    expect(() => issueForPublicKey(node.authority, ask)).toThrow(
      expect.objectContaining({ code: "public_key_invalid" }),
    );
  });
});

describe("info()", () => {
  test("info() says where the key lies, warns of it, and holds no secret", () => {
    const info = node.authority.info();
    expect(info).toMatchObject({
      trustDomain: "example.org",
      nodeName: "node-1",
      keyStorage: "file (0600)",
      holdsRootKey: true,
    });
    expect(info.idPrefixes).toEqual(["spiffe://example.org/"]);
    expect(info.warnings[0]).toContain("whoever copies the disk can use");
    const { text } = openssl(
      node.stateDir,
      { "root.pem": pem(...node.authority.bundle) },
      "x509",
      "-in",
      "root.pem",
      "-noout",
      "-fingerprint",
      "-sha256",
    );
    expect(text.trim().split("=")[1]?.replaceAll(":", "").toLowerCase()).toBe(info.roots[0]?.fingerprint as string);
    expect(JSON.stringify(info)).not.toContain("PRIVATE");
  });
});
