// An upstream CA above the trust domain: openssl plays it, and each answer that is wrong is refused with its sentence.

import { describe, expect, test } from "bun:test";
import { Authorities } from "../../src/ca/authorities.ts";
import { parseUpstreamChain } from "../../src/ca/upstream.ts";
import { TrustDomain } from "../../src/spiffe_id.ts";
import { pick, random } from "../random.ts";
import { scratchDirectories } from "../scratch.ts";
import { makeNode, makeWorkloadKey, type Node, openNode, openssl, pem } from "./authority_fixture.ts";
import { corporate, GOOD } from "./corporate.ts";

const scratch = scratchDirectories();
const workload = makeWorkloadKey();
const issue = (node: Node) =>
  node.authority.issueX509Svid({
    ...{ spiffeId: "spiffe://example.org/app", publicKey: workload.point, lifetimeSeconds: 60, context: {} },
  });

async function nodeOfNow(): Promise<{ node: Node; authorities: Authorities }> {
  const { ManualClock } = await import("../manual_clock.ts");
  const node = await makeNode(scratch(), "example.org", new ManualClock(Date.now()));
  return { node, authorities: new Authorities(node) };
}

describe("an upstream CA", () => {
  test("signs this node's intermediate: openssl makes it of the request and verifies the SVIDs under it (X-5, X-9)", async () => {
    const { node, authorities } = await nodeOfNow();
    const ca = corporate();
    const request = await authorities.request("intermediate");
    expect(await authorities.request("intermediate")).not.toBe("");
    const text = openssl(
      ca.folder,
      { "node.csr": request },
      "req",
      "-in",
      "node.csr",
      "-noout",
      "-text",
      "-verify",
    ).text;
    for (const wanted of ["CA:TRUE, pathlen:0", "URI:spiffe://example.org", "Permitted", "verify OK"])
      expect(text).toContain(wanted);
    const done = await authorities.install(ca.sign(request, GOOD) + ca.root);
    expect(done).toMatchObject({ done: "install", authority: { phase: "published", isHeld: true } });
    expect(node.authority.bundle).toHaveLength(2);
    await authorities.activate(done.authority.id, { force: true });
    await node.clock.advance(10_000);
    const [leaf, intermediate, ...rest] = issue(node).chain as [Uint8Array, Uint8Array];
    expect(rest).toEqual([]);
    const files = { "leaf.pem": pem(leaf), "chain.pem": pem(intermediate) };
    const words = ["verify", "-x509_strict", "-CAfile", "root.pem", "-untrusted", "chain.pem", "leaf.pem"];
    expect(openssl(ca.folder, files, ...words)).toMatchObject({ code: 0 });
    expect(node.authority.verifyPeerChain(issue(node).chain)).toMatchObject({ ok: true });
    await expect(authorities.renewIntermediate()).rejects.toMatchObject({ code: "upstream_needed" });
    node.close();
    const again = openNode(node.stateDir, node.clock);
    expect(issue(again).chain[1]).toEqual(intermediate);
    again.close();
  });

  test("signs a CA that signs the intermediates of nodes, this one's too", async () => {
    const { node, authorities } = await nodeOfNow();
    const ca = corporate();
    const request = await authorities.request("issuing");
    const extensions = GOOD.map((line) => line.replace("pathlen:0", "pathlen:1"));
    const { authority } = await authorities.install(ca.sign(request, extensions) + ca.root);
    await authorities.activate(authority.id, { force: true });
    await node.clock.advance(10_000);
    const { chain } = issue(node);
    expect(chain).toHaveLength(3);
    const files = { "leaf.pem": pem(chain[0] as Uint8Array), "chain.pem": pem(...chain.slice(1)) };
    const words = ["verify", "-x509_strict", "-CAfile", "root.pem", "-untrusted", "chain.pem", "leaf.pem"];
    expect(openssl(ca.folder, files, ...words)).toMatchObject({ code: 0 });
    expect(node.authority.verifyPeerChain(chain)).toMatchObject({ ok: true });
    await authorities.renewIntermediate();
    expect(issue(node).chain[1]).not.toEqual(chain[1] as Uint8Array);
    expect(node.authority.verifyPeerChain(issue(node).chain)).toMatchObject({ ok: true });
    node.close();
  });

  test("that permits DNS names of its own alone has this node issue no others", async () => {
    const { node, authorities } = await nodeOfNow();
    const ca = corporate();
    const extensions = [
      ...GOOD.filter((line) => !line.startsWith("nameConstraints")),
      "nameConstraints=critical,permitted;URI:example.org,permitted;DNS:corp.example",
    ];
    const { authority } = await authorities.install(
      ca.sign(await authorities.request("intermediate"), extensions) + ca.root,
    );
    await authorities.activate(authority.id, { force: true });
    await node.clock.advance(10_000);
    const request = {
      spiffeId: "spiffe://example.org/app",
      publicKey: workload.point,
      lifetimeSeconds: 60,
      context: {},
    };
    const named = (name: string) => node.authority.issueX509Svid({ ...request, dnsNames: [name] });
    expect(node.authority.verifyPeerChain(named("a.corp.example").chain)).toMatchObject({ ok: true });
    expect(() => named("a.other.example")).toThrow(expect.objectContaining({ code: "dns_name_invalid" }));
    node.close();
  });

  test("signs anew below a root that signs already: it is used at once, and the bundle stays as it is", async () => {
    const { node, authorities } = await nodeOfNow();
    const ca = corporate();
    const first = await authorities.install(ca.sign(await authorities.request("intermediate"), GOOD) + ca.root);
    await authorities.activate(first.authority.id, { force: true });
    await node.clock.advance(10_000);
    const before = issue(node);
    const bundle = node.authority.bundle;
    await authorities.install(ca.sign(await authorities.request("intermediate"), GOOD));
    expect(issue(node).chain[1]).not.toEqual(before.chain[1] as Uint8Array);
    expect(node.authority.bundle).toEqual(bundle);
    expect(node.authority.verifyPeerChain(before.chain)).toMatchObject({ ok: true });
    expect(node.authority.verifyPeerChain(issue(node).chain)).toMatchObject({ ok: true });
    await expect(authorities.install(ca.root)).rejects.toMatchObject({ code: "csr_missing" });
    node.close();
  });

  const without = (name: string) => GOOD.filter((line) => !line.startsWith(name));
  const instead = (line: string) => [...without(line.slice(0, line.indexOf("="))), line];

  test.each([
    ["no CA", instead("basicConstraints=critical,CA:FALSE"), "upstream_not_ca", "CA:TRUE"],
    ["no right to sign CRLs", instead("keyUsage=critical,keyCertSign"), "upstream_not_ca", "cRLSign"],
    ["no path length", instead("basicConstraints=critical,CA:TRUE"), "upstream_path_length", "pathlen:0"],
    ["no name constraints", without("nameConstraints"), "upstream_name_constraint", "every trust domain"],
    [
      "name constraints that are not critical",
      instead("nameConstraints=permitted;URI:example.org"),
      "upstream_name_constraint",
      "no critical",
    ],
    [
      "name constraints of another domain",
      instead("nameConstraints=critical,permitted;URI:other.org"),
      "upstream_name_constraint",
      "other.org",
    ],
    [
      "name constraints of another domain too",
      instead("nameConstraints=critical,permitted;URI:example.org,permitted;URI:other.org"),
      "upstream_name_constraint",
      "permit other.org too",
    ],
    [
      "name constraints that say nothing of URIs",
      instead("nameConstraints=critical,permitted;DNS:example.org"),
      "upstream_name_constraint",
      "every URI",
    ],
    [
      "name constraints that exclude the domain",
      instead("nameConstraints=critical,permitted;URI:example.org,excluded;URI:example.org"),
      "upstream_name_constraint",
      "excluded",
    ],
    ["no URI name", without("subjectAltName"), "upstream_foreign_domain", "no URI name"],
    [
      "another trust domain's name",
      instead("subjectAltName=URI:spiffe://other.org"),
      "upstream_foreign_domain",
      "other.org",
    ],
    [
      "two URI names",
      instead("subjectAltName=URI:spiffe://example.org,URI:spiffe://other.org"),
      "upstream_foreign_domain",
      "alone",
    ],
    [
      "extended key usage that ends TLS",
      [...GOOD, "extendedKeyUsage=codeSigning"],
      "upstream_chain_invalid",
      "extended key usage",
    ],
    ["a critical extension of nobody's", [...GOOD, "1.2.3.4=critical,ASN1:NULL"], "upstream_chain_invalid", "1.2.3.4"],
  ])("is refused when its certificate has %s", async (_, extensions, code, sentence) => {
    const { node, authorities } = await nodeOfNow();
    const ca = corporate();
    const answer = ca.sign(await authorities.request("intermediate"), extensions) + ca.root;
    await expect(authorities.install(answer)).rejects.toMatchObject({
      code,
      message: expect.stringContaining(sentence),
    });
    expect(node.authority.bundle).toHaveLength(1);
    node.close();
  });

  test("is refused with another key, another root, no root, or an ended certificate", async () => {
    const { node, authorities } = await nodeOfNow();
    const other = await nodeOfNow();
    const [ca, stranger] = [corporate(), corporate()];
    const refusal = async (text: string) => {
      try {
        await authorities.install(text);
        return "installed";
      } catch (thrown) {
        return (thrown as { code: string }).code;
      }
    };
    expect(await refusal(ca.root)).toBe("csr_missing");
    const request = await authorities.request("intermediate");
    const good = ca.sign(request, GOOD);
    const foreign = ca.sign(await other.authorities.request("intermediate"), GOOD);
    expect(await refusal(foreign + ca.root)).toBe("upstream_wrong_key");
    expect(await refusal(ca.root + good)).toBe("upstream_chain_invalid");
    expect(await refusal(good + stranger.root)).toBe("upstream_chain_invalid");
    expect(await refusal(good)).toBe("upstream_chain_invalid");
    expect(await refusal("")).toBe("upstream_malformed");
    expect(await refusal(`${good}-----BEGIN PRIVATE KEY-----`)).toBe("upstream_malformed");
    const narrow = corporate("basicConstraints=critical,CA:TRUE,pathlen:0");
    expect(await refusal(narrow.sign(request, GOOD) + narrow.root)).toBe("upstream_path_length");
    const constrained = corporate(
      "basicConstraints=critical,CA:TRUE\nnameConstraints=critical,permitted;URI:corp.example",
    );
    expect(await refusal(constrained.sign(request, GOOD) + constrained.root)).toBe("upstream_chain_invalid");
    const long = instead("basicConstraints=critical,CA:TRUE,pathlen:1");
    const short = corporate("basicConstraints=critical,CA:TRUE,pathlen:1");
    expect(await refusal(short.sign(request, long) + short.root)).toBe("upstream_path_length");
    await node.clock.advance(21 * 24 * 3_600_000);
    expect(await refusal(good + ca.root)).toBe("upstream_expired");
    node.clock.set(node.clock.now() - 60 * 24 * 3_600_000);
    expect(await refusal(good + ca.root)).toBe("upstream_not_yet_valid");
    expect(node.authority.bundle).toHaveLength(1);
    node.close();
    other.node.close();
  });

  test("parseUpstreamChain() throws nothing but refusals, whatever the bytes (seeded)", () => {
    const ca = corporate();
    const next = random(0x0abc);
    const context = {
      ...{ trustDomain: TrustDomain.parse("example.org"), publicKey: workload.point, now: Date.now(), roots: [] },
    };
    for (let round = 0; round < 1500; round += 1) {
      const bytes = Buffer.from(ca.root + ca.root);
      for (let edits = 1 + Math.floor(next() * 4); edits > 0; edits -= 1)
        bytes[Math.floor(next() * bytes.length)] = pick(next, [0x41, 0x2d, 0x0a, 0x3d, 0xff, 0x00, 0x2b]);
      expect(() => parseUpstreamChain(bytes.toString("latin1"), context)).toThrow(
        expect.objectContaining({ code: expect.stringMatching(/^upstream_/) }),
      );
    }
  });
});
