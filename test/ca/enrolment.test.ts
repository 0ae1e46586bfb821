import { beforeAll, describe, expect, test } from "bun:test";
import { existsSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Pkcs10CertificateRequest } from "@peculiar/x509";
import {
  createEnrolmentRequest,
  type InstallOptions,
  installEnrolment,
  type SignOptions,
  signEnrolment,
} from "../../src/ca.ts";
import { type EnrolmentGrant, type EnrolmentRequest, enrolmentGrantBytes } from "../../src/enrolment.ts";
import { ManualClock } from "../manual_clock.ts";
import { scratchDirectories } from "../scratch.ts";
import { makeNode, makeWorkloadKey, type Node, openNode, openssl, pem } from "./authority_fixture.ts";

const scratch = scratchDirectories();
const DAY = 24 * 3600 * 1000;
let root: Node;

beforeAll(async () => {
  root = await makeNode(scratch());
});

const clockNow = () => new ManualClock(root.clock.now());
let names = 0;

/** A node that has asked, under a name of its own. */
async function ask(
  changes: Partial<Parameters<typeof createEnrolmentRequest>[0]> = {},
): Promise<{ stateDir: string; request: EnrolmentRequest }> {
  names += 1;
  const stateDir = scratch();
  const request = await createEnrolmentRequest({
    stateDir,
    trustDomain: "example.org",
    nodeName: `edge-${names}`,
    clock: clockNow(),
    ...changes,
  });
  return { stateDir, request };
}

const sign = (request: EnrolmentRequest, changes: Partial<SignOptions> = {}) =>
  signEnrolment({ stateDir: root.stateDir, request, clock: clockNow(), ...changes });
const install = (stateDir: string, grant: EnrolmentGrant, changes: Partial<InstallOptions> = {}) =>
  installEnrolment({ stateDir, grant, clock: clockNow(), ...changes });

describe("enrolment by file", () => {
  test("installEnrolment() gives the node a CA whose SVIDs the first node and openssl accept", async () => {
    const { stateDir, request } = await ask();
    const grant = await sign(request);
    const fingerprint = root.authority.info().roots[0]?.fingerprint as string;
    const installed = await install(stateDir, grant, {
      rootFingerprint: fingerprint.toUpperCase().replace(/..(?=.)/g, "$&:"),
    });
    expect(installed).toEqual({
      trustDomain: "example.org",
      nodeName: request.nodeName,
      rootFingerprint: fingerprint,
      pinned: true,
      expiresAt: new Date(root.clock.now() + 365 * DAY),
    });
    const node = openNode(stateDir, clockNow());
    const { chain } = node.authority.issueX509Svid({
      spiffeId: "spiffe://example.org/far",
      publicKey: makeWorkloadKey().point,
      lifetimeSeconds: 60,
      context: {},
    });
    expect(root.authority.verifyPeerChain(chain)).toMatchObject({ ok: true });
    expect(
      node.authority.verifyPeerChain(
        root.authority.issueX509Svid({
          spiffeId: "spiffe://example.org/near",
          publicKey: makeWorkloadKey().point,
          lifetimeSeconds: 60,
          context: {},
        }).chain,
      ),
    ).toMatchObject({ ok: true });
    const files = {
      "leaf.pem": pem(chain[0] as Uint8Array),
      "node.pem": pem(chain[1] as Uint8Array),
      "root.pem": pem(...root.authority.bundle),
    };
    const at = String(Math.floor(root.clock.now() / 1000));
    expect(
      openssl(
        stateDir,
        files,
        "verify",
        "-x509_strict",
        "-attime",
        at,
        "-CAfile",
        "root.pem",
        "-untrusted",
        "node.pem",
        "leaf.pem",
      ).code,
    ).toBe(0);
    expect(node.authority.info()).toMatchObject({ holdsRootKey: false, nodeName: request.nodeName });
    expect(readdirSync(join(stateDir, "ca")).sort()).toEqual(["bundle.pem", "node.json", "node.key", "node.pem"]);
    node.close();
  });

  test("installEnrolment() says that nothing was pinned when no fingerprint was given", async () => {
    const { stateDir, request } = await ask();
    expect(await install(stateDir, await sign(request))).toMatchObject({ pinned: false });
  });

  test("signEnrolment() limits the node to its prefixes, and the node keeps to them", async () => {
    const { stateDir, request } = await ask();
    const idPrefixes = ["spiffe://example.org/edge/", "spiffe://example.org/one"];
    await install(stateDir, await sign(request, { idPrefixes }));
    const node = openNode(stateDir, clockNow());
    const issue = (spiffeId: string) =>
      node.authority.issueX509Svid({ spiffeId, publicKey: makeWorkloadKey().point, lifetimeSeconds: 60, context: {} });
    for (const id of ["edge/a", "edge/a/b", "one"]) expect(issue(`spiffe://example.org/${id}`).chain).toHaveLength(2);
    for (const id of ["edge", "edges/a", "one/b", "onea", "other"]) {
      expect(() => issue(`spiffe://example.org/${id}`)).toThrow(expect.objectContaining({ code: "svid_refused" }));
    }
    node.close();
  });

  test("signEnrolment() clamps the intermediate to the root's end", async () => {
    const { request } = await ask();
    const grant = await sign(request, {
      lifetimeSeconds: 3650 * 24 * 3600,
      clock: new ManualClock(root.clock.now() + DAY),
    });
    expect(grant.expiresAt).toBe(root.authority.info().roots[0]?.notAfter.getTime() as number);
  });
});

describe("createEnrolmentRequest()", () => {
  test("createEnrolmentRequest() makes a request whose possession of the key openssl and @peculiar/x509 confirm", async () => {
    const { stateDir, request } = await ask();
    const csr = new Pkcs10CertificateRequest(Uint8Array.from(request.csr));
    expect(await csr.verify()).toBe(true);
    expect(csr.subject).toBe(`O=riprap, CN=${request.nodeName}`);
    writeFileSync(join(stateDir, "csr.der"), request.csr);
    expect(openssl(stateDir, {}, "req", "-in", "csr.der", "-inform", "DER", "-noout", "-verify").text).toContain(
      "verify OK",
    );
    expect(request.expiresAt - request.createdAt).toBe(7 * DAY);
  });

  test("createEnrolmentRequest() keeps the key when the same name asks again, so that the earlier grant still fits", async () => {
    const { stateDir, request } = await ask();
    const grant = await sign(request);
    await createEnrolmentRequest({
      stateDir,
      trustDomain: "example.org",
      nodeName: request.nodeName,
      clock: clockNow(),
    });
    expect(await install(stateDir, grant)).toMatchObject({ nodeName: request.nodeName });
  });

  test("createEnrolmentRequest() refuses on a node that has a CA, and bad names", async () => {
    await expect(ask({ stateDir: root.stateDir })).rejects.toMatchObject({ code: "ca_exists" });
    await expect(ask({ nodeName: "a b" })).rejects.toMatchObject({ code: "node_name_invalid" });
    await expect(ask({ trustDomain: "A" })).rejects.toMatchObject({ code: "trust_domain_invalid" });
  });

  test("createEnrolmentRequest() leaves a node that cannot open a CA yet, and says what it waits for", async () => {
    const { stateDir } = await ask();
    expect(() => openNode(stateDir, clockNow())).toThrow("run `riprap enrol install FILE`");
    await expect(makeNode(stateDir)).rejects.toMatchObject({ code: "enrolment_pending" });
  });
});

describe("signEnrolment()", () => {
  const flip = (bytes: Uint8Array) =>
    Uint8Array.from(bytes, (octet, i) => (i === bytes.length - 1 ? octet ^ 1 : octet));
  const refused: [name: string, code: string, spoil: (request: EnrolmentRequest) => Partial<EnrolmentRequest>][] = [
    ["of another trust domain", "request_foreign", () => ({ trustDomain: "example.com" })],
    ["that was renamed", "request_forged", () => ({ nodeName: "other" })],
    ["whose name is malformed", "node_name_invalid", () => ({ nodeName: "-" })],
    ["that was dated on", "request_forged", ({ expiresAt }) => ({ expiresAt: expiresAt + 1000 })],
    ["that was dated back", "request_forged", ({ createdAt }) => ({ createdAt: createdAt - 1000 })],
    ["whose signature is damaged", "request_forged", ({ signature }) => ({ signature: flip(signature) })],
    ["whose PKCS#10 part is damaged", "request_forged", ({ csr }) => ({ csr: flip(csr) })],
    ["whose PKCS#10 part is cut", "request_forged", ({ csr }) => ({ csr: csr.slice(0, 50) })],
    ["whose PKCS#10 part has a tail", "request_forged", ({ csr }) => ({ csr: Buffer.concat([csr, Buffer.of(0)]) })],
    ["whose PKCS#10 part is empty", "request_forged", () => ({ csr: new Uint8Array(0) })],
  ];
  test.each(refused)("signEnrolment() refuses a request %s with %s", async (_name, code, spoil) => {
    const { request } = await ask();
    await expect(sign({ ...request, ...spoil(request) })).rejects.toMatchObject({ code });
  });

  test("signEnrolment() refuses a PKCS#10 part that was taken from another request", async () => {
    const [mine, theirs] = [(await ask()).request, (await ask()).request];
    await expect(sign({ ...mine, csr: theirs.csr })).rejects.toMatchObject({ code: "request_forged" });
    await expect(sign({ ...mine, csr: theirs.csr, signature: theirs.signature })).rejects.toMatchObject({
      code: "request_forged",
    });
  });

  test("signEnrolment() refuses a request that has expired or comes from the future", async () => {
    const { request } = await ask();
    await expect(sign(request, { clock: new ManualClock(root.clock.now() + 7 * DAY + 1) })).rejects.toMatchObject({
      code: "request_expired",
    });
    await expect(sign(request, { clock: new ManualClock(root.clock.now() - 61_000) })).rejects.toMatchObject({
      code: "request_not_yet_valid",
    });
  });

  test("signEnrolment() signs nothing twice: not the same key, and not the same name unless it is replaced", async () => {
    const { stateDir, request } = await ask();
    const grant = await sign(request);
    await expect(sign(request)).rejects.toMatchObject({ code: "request_repeated" });
    await expect(sign(request, { replace: true })).rejects.toMatchObject({ code: "request_repeated" });
    const namesake = await ask({ nodeName: request.nodeName });
    await expect(sign(namesake.request)).rejects.toMatchObject({ code: "node_enrolled" });
    await expect(sign((await ask({ nodeName: "node-1" })).request)).rejects.toMatchObject({ code: "node_enrolled" });
    await install(stateDir, grant);
    const old = openNode(stateDir, clockNow());
    const { chain } = old.authority.issueX509Svid({
      spiffeId: "spiffe://example.org/a",
      publicKey: makeWorkloadKey().point,
      lifetimeSeconds: 60,
      context: {},
    });
    expect(root.authority.verifyPeerChain(chain).ok).toBe(true);
    await sign(namesake.request, { replace: true });
    expect(root.authority.verifyPeerChain(chain)).toMatchObject({ ok: false, code: "revoked" });
    old.close();
  });

  test("signEnrolment() takes a name again once its intermediate has ended", async () => {
    const { request } = await ask();
    await sign(request, { lifetimeSeconds: 60 });
    const namesake = await ask({ nodeName: request.nodeName });
    await sign(namesake.request, { clock: new ManualClock(root.clock.now() + 61_000) });
  });

  const options: [code: string, changes: Partial<SignOptions>][] = [
    ["lifetime_invalid", { lifetimeSeconds: 59 }],
    ["lifetime_invalid", { lifetimeSeconds: 61.5 }],
    ["lifetime_invalid", { lifetimeSeconds: 3651 * 24 * 3600 }],
    ["id_prefix_invalid", { idPrefixes: [] }],
    ["id_prefix_invalid", { idPrefixes: ["spiffe://example.com/a/"] }],
    ["id_prefix_invalid", { idPrefixes: ["spiffe://example.org"] }],
    ["id_prefix_invalid", { idPrefixes: ["spiffe://example.org//"] }],
    ["id_prefix_invalid", { idPrefixes: ["/a/"] }],
    ["id_prefix_invalid", { idPrefixes: Array.from({ length: 65 }, () => "spiffe://example.org/") }],
    ["root_expired", { clock: new ManualClock("2037-01-01T00:00:00Z") }],
  ];
  test.each(options)("signEnrolment() refuses with %s (case %#)", async (code, changes) => {
    const { request } = await ask(changes.clock === undefined ? {} : { clock: changes.clock });
    await expect(sign(request, changes)).rejects.toMatchObject({ code });
  });

  test("signEnrolment() refuses on a node without the root key or without a CA", async () => {
    const { stateDir, request } = await ask();
    await install(stateDir, await sign(request));
    const second = await ask();
    await expect(sign(second.request, { stateDir })).rejects.toMatchObject({ code: "root_not_here" });
    await expect(sign(second.request, { stateDir: scratch() })).rejects.toMatchObject({ code: "ca_not_initialised" });
  });
});

describe("installEnrolment()", () => {
  test("installEnrolment() refuses what is another node's, another key's or another trust domain's", async () => {
    const [one, two] = [await ask(), await ask()];
    const grants = [await sign(one.request), await sign(two.request)] as const;
    await expect(install(one.stateDir, grants[1])).rejects.toMatchObject({ code: "grant_other_node" });
    const otherKey = await ask({ nodeName: one.request.nodeName });
    await expect(install(otherKey.stateDir, grants[0])).rejects.toMatchObject({ code: "grant_other_key" });
    const foreign = await ask({ trustDomain: "example.com", nodeName: one.request.nodeName });
    await expect(install(foreign.stateDir, grants[0])).rejects.toMatchObject({ code: "grant_foreign" });
    for (const { stateDir } of [one, otherKey, foreign])
      expect(existsSync(join(stateDir, "ca", "node.json"))).toBe(false);
  });

  test("installEnrolment() and signEnrolment() never show control characters of a document in their message", async () => {
    const { stateDir, request } = await ask();
    const grant = await sign(request);
    const hostile = `\u001b[2J\n${"x".repeat(500)}`;
    const attempts = [
      install(stateDir, { ...grant, trustDomain: hostile }),
      install(stateDir, { ...grant, nodeName: hostile }),
      install(stateDir, { ...grant, idPrefixes: [hostile] }),
      sign({ ...request, trustDomain: hostile }),
      sign({ ...request, nodeName: hostile }),
    ];
    for (const attempt of attempts) {
      const { message } = (await attempt.catch((thrown: unknown) => thrown)) as Error;
      expect(message.startsWith("Cannot ")).toBe(true);
      expect(message.length).toBeLessThan(400);
      expect([...message].every((character) => character >= " ")).toBe(true);
    }
  });

  test("installEnrolment() refuses when nothing was asked, or when it was installed already", async () => {
    const { stateDir, request } = await ask();
    const grant = await sign(request);
    await expect(install(scratch(), grant)).rejects.toMatchObject({ code: "enrolment_not_requested" });
    await install(stateDir, grant);
    await expect(install(stateDir, grant)).rejects.toMatchObject({ code: "ca_exists" });
    await expect(install(root.stateDir, grant)).rejects.toMatchObject({ code: "ca_exists" });
  });

  test("installEnrolment() refuses a root other than the one whose fingerprint is given, and a fingerprint that is none", async () => {
    const { stateDir, request } = await ask();
    const grant = await sign(request);
    await expect(install(stateDir, grant, { rootFingerprint: "00".repeat(32) })).rejects.toMatchObject({
      code: "grant_wrong_root",
    });
    for (const rootFingerprint of ["", "00", "zz".repeat(32), "00".repeat(33)]) {
      await expect(install(stateDir, grant, { rootFingerprint })).rejects.toMatchObject({
        code: "fingerprint_invalid",
      });
    }
  });

  test("installEnrolment() refuses a grant that has ended or not begun", async () => {
    const { stateDir, request } = await ask();
    const grant = await sign(request, { lifetimeSeconds: 60 });
    await expect(install(stateDir, grant, { clock: new ManualClock(root.clock.now() + 60_001) })).rejects.toMatchObject(
      { code: "grant_expired" },
    );
    await expect(
      install(stateDir, grant, { clock: new ManualClock(root.clock.now() - 121_000) }),
    ).rejects.toMatchObject({ code: "grant_not_yet_valid" });
    await install(stateDir, grant);
  });

  test("installEnrolment() notices a change of any field that the certificates do not cover", async () => {
    const { stateDir, request } = await ask();
    const grant = await sign(request, { idPrefixes: ["spiffe://example.org/a/"] });
    const changes: Partial<EnrolmentGrant>[] = [
      { idPrefixes: ["spiffe://example.org/"] },
      { idPrefixes: ["spiffe://example.org/a/", "spiffe://example.org/b/"] },
      { issuedAt: grant.issuedAt + 1000 },
      { expiresAt: grant.expiresAt + 1000 },
      { roots: [...grant.roots, ...grant.roots] },
      { signature: grant.signature.slice(1) },
      { signature: new Uint8Array(0) },
    ];
    for (const change of changes)
      await expect(install(stateDir, { ...grant, ...change })).rejects.toMatchObject({ code: "grant_forged" });
  });

  test("installEnrolment() refuses certificates that do not lead to a root of the trust domain", async () => {
    const { stateDir, request } = await ask();
    const grant = await sign(request);
    const stranger = await makeNode(scratch());
    const foreign = await makeNode(scratch(), "example.com");
    const leaf = root.authority.issueX509Svid({
      spiffeId: "spiffe://example.org/a",
      publicKey: makeWorkloadKey().point,
      lifetimeSeconds: 60,
      context: {},
    }).chain;
    const changes: Partial<EnrolmentGrant>[] = [
      { chain: [] },
      { roots: [] },
      { chain: [...grant.chain, ...grant.chain, ...grant.chain] },
      { roots: Array.from({ length: 9 }, () => grant.roots[0] as Uint8Array) },
      { roots: stranger.authority.bundle },
      { roots: foreign.authority.bundle },
      { roots: grant.chain },
      { chain: leaf },
      { chain: [Uint8Array.of(0x30, 0)] },
      { roots: [Uint8Array.of(0x30, 0)] },
    ];
    for (const change of changes)
      await expect(install(stateDir, { ...grant, ...change })).rejects.toMatchObject({ code: "grant_chain_invalid" });
    stranger.close();
    foreign.close();
  });

  test("installEnrolment() ends well when an earlier attempt was cut off before its last step", async () => {
    const { stateDir, request } = await ask();
    const grant = await sign(request);
    for (const name of ["bundle.pem", "node.pem", "node.key"])
      writeFileSync(join(stateDir, "ca", name), "half", { mode: 0o600 });
    await install(stateDir, grant);
    openNode(stateDir, clockNow()).close();
    const again = await ask();
    rmSync(join(again.stateDir, "ca", "enrolment.key"));
    await expect(install(again.stateDir, await sign(again.request))).rejects.toMatchObject({ code: "state_missing" });
  });
});

describe("enrolmentGrantBytes()", () => {
  test("enrolmentGrantBytes() differ when octets move from one field to the next", () => {
    const base = {
      trustDomain: "a",
      nodeName: "b",
      idPrefixes: ["x", "y"],
      issuedAt: 1,
      expiresAt: 2,
      chain: [Buffer.of(1)],
      roots: [Buffer.of(2)],
    };
    const variants = [
      base,
      { ...base, trustDomain: "ab", nodeName: "" },
      { ...base, idPrefixes: ["xy"] },
      { ...base, idPrefixes: ["x", "y", "\u0001"], chain: [] },
      { ...base, chain: [Buffer.of(1), Buffer.of(2)], roots: [] },
      { ...base, issuedAt: 12, expiresAt: 2 },
    ];
    expect(new Set(variants.map((grant) => Buffer.from(enrolmentGrantBytes(grant)).toString("hex"))).size).toBe(
      variants.length,
    );
  });
});
