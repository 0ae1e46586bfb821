// Issuing CAs under an exported root, and the renewal of a node's intermediate by whichever issuing node is there.
import { beforeAll, describe, expect, test } from "bun:test";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import {
  createEnrolmentRequest,
  createRenewalRequest,
  exportNodeKey,
  installEnrolment,
  installRenewedIntermediate,
  needsRenewal,
  openAuthorities,
  openRoot,
  openRootExport,
  type RootSigner,
  signEnrolment,
  signIssuing,
} from "../../src/ca.ts";
import type { EnrolmentGrant } from "../../src/enrolment.ts";
import { ManualClock } from "../manual_clock.ts";
import { scratchDirectories } from "../scratch.ts";
import { makeNode, makeWorkloadKey, type Node, openNode, openssl, pem } from "./authority_fixture.ts";

const scratch = scratchDirectories();
const DAY = 24 * 3600 * 1000;
const clock = new ManualClock();
const nodes: Node[] = [];
let root: RootSigner;

const at = (index: number): Node => nodes[index] as Node;
const derOf = (text: string) => Uint8Array.from(Buffer.from(text.replaceAll(/-----[A-Z ]+-----|\s/g, ""), "base64"));
const svid = (node: Node) =>
  node.authority.issueX509Svid({
    spiffeId: "spiffe://example.org/web",
    publicKey: makeWorkloadKey().point,
    lifetimeSeconds: 3600,
    context: {},
  });

/** The node's CSR to the exported root, and the answer back. */
async function makeIssuing(node: Node): Promise<void> {
  const authorities = openAuthorities({ stateDir: node.stateDir, store: node.store, clock });
  const csr = derOf(await authorities.request("issuing"));
  const { chain } = await signIssuing(root, { csr, now: clock.now() });
  await authorities.install(pem(...chain));
}

async function enrol(nodeName: string, by: Node, rest: { idPrefixes?: string[] } = {}): Promise<Node> {
  const stateDir = scratch();
  const request = await createEnrolmentRequest({ stateDir, trustDomain: "example.org", nodeName, clock });
  const grant = await signEnrolment({ stateDir: by.stateDir, request, clock, ...rest });
  await installEnrolment({ stateDir, grant, clock });
  return openNode(stateDir, clock);
}

const place = (node: Node) => ({ stateDir: node.stateDir, store: node.store, now: clock.now() });

async function renewed(node: Node, by: Node): Promise<EnrolmentGrant> {
  const request = await createRenewalRequest(place(node));
  return signEnrolment({ stateDir: by.stateDir, request, clock, isRenewal: true });
}

beforeAll(async () => {
  nodes.push(await makeNode(scratch(), "example.org", clock));
  const file = join(scratch(), "root.der");
  exportNodeKey(at(0).stateDir, { name: "root", file, remove: true });
  root = openRootExport(readFileSync(file), { roots: at(0).authority.bundle, path: file });
  await makeIssuing(at(0));
  nodes.push(await enrol("node-2", at(0)));
  await makeIssuing(at(1));
  nodes.push(await enrol("node-3", at(1)));
});

describe("issuing nodes", () => {
  test("signIssuing() makes a CA of path length 1 for the trust domain alone, which openssl reads so", () => {
    const [, , issuing] = svid(at(0)).chain;
    const { text } = openssl(
      scratch(),
      { "ca.pem": pem(issuing as Uint8Array) },
      "x509",
      "-in",
      "ca.pem",
      "-noout",
      "-text",
    );
    expect(text).toContain("CA:TRUE, pathlen:1");
    expect(text).toMatch(/X509v3 Name Constraints: critical\s+Permitted:\s+URI:example\.org/);
    expect(text).toContain("URI:spiffe://example.org");
  });

  test("the root key leaves the node once an issuing CA is there, and openRoot() says so", () => {
    expect(existsSync(join(at(0).stateDir, "ca", "root.key"))).toBe(false);
    expect(() => openRoot(place(at(0)))).toThrow(expect.objectContaining({ code: "root_not_here" }));
  });

  test("nodes under either issuing node accept one another, and openssl accepts their SVIDs", () => {
    for (const from of nodes) {
      const { chain } = svid(from);
      expect(chain.length).toBe(3);
      for (const to of nodes) expect(to.authority.verifyPeerChain(chain)).toMatchObject({ ok: true });
      const files = {
        "root.pem": pem(...from.authority.bundle),
        "between.pem": pem(...chain.slice(1)),
        "leaf.pem": pem(chain[0] as Uint8Array),
      };
      const words = [
        "verify",
        "-attime",
        String(clock.now() / 1000),
        "-CAfile",
        "root.pem",
        "-untrusted",
        "between.pem",
      ];
      expect(openssl(scratch(), files, ...words, "leaf.pem")).toMatchObject({ code: 0 });
    }
  });

  test("openRootExport() refuses what is no key, and a key that no root has", () => {
    const roots = at(0).authority.bundle;
    expect(() => openRootExport(new Uint8Array(5), { roots, path: "x" })).toThrow(
      expect.objectContaining({ code: "ca_key_invalid" }),
    );
    const other = derOf(makeWorkloadKey().privatePem);
    expect(() => openRootExport(other, { roots, path: "x" })).toThrow(
      expect.objectContaining({ code: "root_unknown" }),
    );
  });

  test("signIssuing() refuses a request of another trust domain, mangled octets, and when the root has ended", async () => {
    const foreign = await createEnrolmentRequest({
      stateDir: scratch(),
      trustDomain: "other.org",
      nodeName: "eve",
      clock,
    });
    const own = await createEnrolmentRequest({
      stateDir: scratch(),
      trustDomain: "example.org",
      nodeName: "ok",
      clock,
    });
    const now = clock.now();
    const forged = { code: "request_forged" };
    expect(signIssuing(root, { csr: foreign.csr, now })).rejects.toMatchObject(forged);
    expect(signIssuing(root, { csr: own.csr.slice(1), now })).rejects.toMatchObject(forged);
    expect(signIssuing(root, { csr: new Uint8Array(20_000), now })).rejects.toMatchObject(forged);
    expect(signIssuing(root, { csr: own.csr, now: now + 4000 * DAY })).rejects.toMatchObject({ code: "root_expired" });
    const far = await signIssuing(root, { csr: own.csr, now: now + 3000 * DAY });
    expect(far.notAfter).toBe(root.certificate.notAfter);
  });
});

describe("renewal", () => {
  test("needsRenewal() asks when two thirds of a life are over", () => {
    const validity = { notBefore: 0, notAfter: 300 };
    expect(needsRenewal(validity, 200)).toBe(false);
    expect(needsRenewal(validity, 201)).toBe(true);
  });

  test("installRenewedIntermediate() signs with a new key from then on, and what the old one signed stays good", async () => {
    const node = at(2);
    const before = svid(node);
    await clock.advance(250 * DAY);
    const fresh = svid(node);
    const grant = await renewed(node, at(0));
    const { publicKey, notAfter } = installRenewedIntermediate(grant, place(node));
    expect(publicKey.length).toBe(65);
    expect(notAfter.getTime()).toBeGreaterThan(clock.now() + 364 * DAY);
    const again = openNode(node.stateDir, clock);
    const after = svid(again);
    expect(Buffer.from(after.chain[1] as Uint8Array)).not.toEqual(Buffer.from(before.chain[1] as Uint8Array));
    for (const to of [at(0), at(1)]) {
      expect(to.authority.verifyPeerChain(after.chain)).toMatchObject({ ok: true });
      expect(to.authority.verifyPeerChain(fresh.chain)).toMatchObject({ ok: true });
    }
    again.close();
  });

  test("a node renews from the other issuing node when the one that enrolled it is gone", async () => {
    const node = await enrol("node-4", at(0));
    await clock.advance(1000);
    installRenewedIntermediate(await renewed(node, at(1)), place(node));
    expect(at(1).authority.verifyPeerChain(svid(openNode(node.stateDir, clock)).chain)).toMatchObject({ ok: true });
  });

  test("installRenewedIntermediate() refuses each wrong grant by its own code, and the node signs on", async () => {
    const node = await enrol("node-5", at(1));
    const other = await enrol("node-6", at(1));
    const refused = (grant: EnrolmentGrant, code: string) =>
      expect(() => installRenewedIntermediate(grant, place(node))).toThrow(expect.objectContaining({ code }));
    const foreign = await renewed(other, at(1));
    refused(foreign, "renewal_not_requested");
    const first = await renewed(node, at(1));
    await clock.advance(1000);
    const good = await renewed(node, at(1));
    refused(foreign, "grant_other_node");
    refused({ ...good, trustDomain: "other.org" }, "grant_foreign");
    refused(first, "grant_other_key");
    refused({ ...good, expiresAt: good.expiresAt + 1000 }, "grant_forged");
    refused({ ...good, chain: good.chain.slice(0, 1) }, "grant_chain_invalid");
    const stranger = await makeNode(scratch(), "example.org", clock);
    const elsewhere = await signEnrolment({
      stateDir: stranger.stateDir,
      request: await createRenewalRequest(place(node)),
      clock,
    });
    refused(elsewhere, "grant_wrong_root");
    const short = await signEnrolment({
      stateDir: at(1).stateDir,
      request: await createRenewalRequest(place(node)),
      clock,
      isRenewal: true,
      lifetimeSeconds: 3600,
    });
    refused(short, "grant_older");
    expect(at(0).authority.verifyPeerChain(svid(node).chain)).toMatchObject({ ok: true });
  });

  test("installRenewedIntermediate() takes the prefixes of the grant: a node that lost one signs no more below it", async () => {
    const node = await enrol("node-7", at(1));
    await clock.advance(1000);
    const request = await createRenewalRequest(place(node));
    const idPrefixes = ["spiffe://example.org/db/"];
    const grant = await signEnrolment({ stateDir: at(1).stateDir, request, clock, isRenewal: true, idPrefixes });
    installRenewedIntermediate(grant, place(node));
    const again = openNode(node.stateDir, clock);
    expect(() => svid(again)).toThrow(expect.objectContaining({ code: "svid_refused" }));
    again.close();
  });
});
