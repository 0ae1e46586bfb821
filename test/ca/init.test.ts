import { beforeAll, describe, expect, test } from "bun:test";
import { chmodSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import {
  AuthorityKeyIdentifierExtension,
  BasicConstraintsExtension,
  KeyUsageFlags,
  KeyUsagesExtension,
  SubjectKeyIdentifierExtension,
  X509Certificate,
} from "@peculiar/x509";
import { initTrustDomain, openAuthority } from "../../src/ca.ts";
import { openStore } from "../../src/store.ts";
import { ManualClock } from "../manual_clock.ts";
import { scratchDirectories } from "../scratch.ts";
import { makeNode, makeWorkloadKey, openssl, pem } from "./authority_fixture.ts";

const scratch = scratchDirectories();
const clock = new ManualClock();
let stateDir: string;
beforeAll(async () => {
  stateDir = scratch();
  await initTrustDomain({ stateDir, trustDomain: "example.org", nodeName: "node-1", clock });
});

const open = (directory: string) => openAuthority({ stateDir: directory, clock, store: openStore(":memory:") });
const init = (changes: Partial<Parameters<typeof initTrustDomain>[0]>) =>
  initTrustDomain({ stateDir: scratch(), trustDomain: "example.org", nodeName: "node-1", clock, ...changes });

/** A copy of the good state directory for a test to spoil. */
function copyState(): string {
  const copy = scratch();
  Bun.spawnSync(["cp", "-a", `${stateDir}/.`, copy]);
  return copy;
}

describe("initTrustDomain()", () => {
  test("initTrustDomain() leaves only private files", () => {
    expect(statSync(join(stateDir, "ca")).mode & 0o777).toBe(0o700);
    expect(readdirSync(join(stateDir, "ca")).sort()).toEqual([
      "bundle.pem",
      "node.json",
      "node.key",
      "node.pem",
      "root.key",
    ]);
    for (const name of readdirSync(join(stateDir, "ca")))
      expect([name, statSync(join(stateDir, "ca", name)).mode & 0o777]).toEqual([name, 0o600]);
  });

  test("initTrustDomain() makes a root and an intermediate of the SPIFFE profile, as @peculiar/x509 reads them (rows ID-16, X-5, X-6, X-8, X-9, X-10, X-11, X-13)", () => {
    const authority = open(stateDir);
    const root = new X509Certificate(Uint8Array.from(authority.bundle[0] as Uint8Array));
    const { chain } = authority.issueX509Svid({
      spiffeId: "spiffe://example.org/a",
      publicKey: makeWorkloadKey().point,
      lifetimeSeconds: 60,
      context: {},
    });
    const node = new X509Certificate(Uint8Array.from(chain[1] as Uint8Array));
    for (const certificate of [root, node]) {
      expect(certificate.getExtension(KeyUsagesExtension)?.usages).toBe(
        KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign,
      );
      expect(certificate.getExtension(KeyUsagesExtension)?.critical).toBe(true);
      expect(certificate.getExtension(BasicConstraintsExtension)).toMatchObject({ ca: true, critical: true });
      expect(certificate.getExtension("2.5.29.17")?.toString("text")).toContain("spiffe://example.org");
      expect(certificate.getExtension("2.5.29.37")).toBeNull();
      expect(certificate.getExtension(AuthorityKeyIdentifierExtension)?.keyId).toBe(
        root.getExtension(SubjectKeyIdentifierExtension)?.keyId as string,
      );
    }
    expect(root.getExtension(BasicConstraintsExtension)?.pathLength).toBeUndefined();
    expect(node.getExtension(BasicConstraintsExtension)?.pathLength).toBe(0);
    expect(node.subject).toBe("O=riprap, CN=node-1");
    expect(node.notAfter.getTime() - clock.now()).toBe(365 * 24 * 3600 * 1000);
    expect(root.notAfter.getTime() - clock.now()).toBe(3650 * 24 * 3600 * 1000);
    const files = { "node.pem": pem(chain[1] as Uint8Array) };
    const { text } = openssl(stateDir, files, "x509", "-in", "node.pem", "-noout", "-ext", "nameConstraints");
    expect(text.replace(/\s+/g, " ")).toBe("X509v3 Name Constraints: critical Permitted: URI:example.org ");
  });

  test("initTrustDomain() makes an intermediate whose constraints openssl enforces against a leaf of another trust domain", async () => {
    const leaf = makeWorkloadKey();
    const files = {
      "leaf.key": leaf.privatePem,
      "ext.cnf": "subjectAltName=critical,URI:spiffe://example.com/a\nkeyUsage=critical,digitalSignature\n",
    };
    openssl(stateDir, files, "req", "-new", "-key", "leaf.key", "-subj", "/CN=x", "-out", "leaf.csr");
    const signWords = [
      "-req",
      "-in",
      "leaf.csr",
      "-CA",
      "ca/node.pem",
      "-CAkey",
      "ca/node.key",
      "-CAkeyform",
      "DER",
      "-extfile",
      "ext.cnf",
      "-out",
      "leaf.pem",
    ];
    expect(openssl(stateDir, {}, "x509", ...signWords).code).toBe(0);
    const verify = openssl(stateDir, {}, "verify", "-CAfile", "ca/bundle.pem", "-untrusted", "ca/node.pem", "leaf.pem");
    expect(verify.text).toContain("permitted subtree violation");
  });

  const refused: [code: string, changes: Partial<Parameters<typeof initTrustDomain>[0]>][] = [
    ["trust_domain_invalid", { trustDomain: "Example.org" }],
    ["trust_domain_invalid", { trustDomain: "spiffe://example.org" }],
    ["trust_domain_invalid", { trustDomain: "" }],
    ["trust_domain_unconstrainable", { trustDomain: "10.0.0.1" }],
    ["trust_domain_unconstrainable", { trustDomain: "a..b" }],
    ["node_name_invalid", { nodeName: "" }],
    ["node_name_invalid", { nodeName: "Node" }],
    ["node_name_invalid", { nodeName: "-a" }],
    ["node_name_invalid", { nodeName: "a.b" }],
    ["node_name_invalid", { nodeName: "a".repeat(64) }],
    ["node_name_invalid", { nodeName: "a\n" }],
  ];
  test.each(refused)("initTrustDomain() refuses with %s (case %#)", async (code, changes) => {
    const directory = scratch();
    await expect(init({ stateDir: directory, ...changes })).rejects.toMatchObject({ code });
    expect(readdirSync(directory)).toEqual([]);
  });

  test("initTrustDomain() refuses when there is a CA, or the rest of one, and changes nothing", async () => {
    const before = readFileSync(join(stateDir, "ca", "root.key"));
    await expect(init({ stateDir })).rejects.toMatchObject({ code: "ca_exists" });
    expect(readFileSync(join(stateDir, "ca", "root.key"))).toEqual(before);
    const half = copyState();
    rmSync(join(half, "ca", "node.json"));
    await expect(init({ stateDir: half })).rejects.toMatchObject({
      code: "ca_exists",
      message: expect.stringContaining("did not finish"),
    });
  });

  test("initTrustDomain() refuses a state directory that others can enter", async () => {
    const directory = scratch();
    chmodSync(directory, 0o755);
    await expect(init({ stateDir: directory })).rejects.toMatchObject({ code: "state_not_private" });
  });

  test("initTrustDomain() journals the root and the intermediate", async () => {
    const node = await makeNode(scratch());
    expect(node.store.prepare("SELECT kind, node FROM ca_authority ORDER BY kind").all()).toEqual([
      { kind: "intermediate", node: "node-1" },
      { kind: "root", node: "" },
    ]);
    node.close();
  });
});

describe("openAuthority()", () => {
  test("openAuthority() refuses when there is no CA, and says how to get one", () => {
    expect(() => open(scratch())).toThrow(/run `riprap init DOMAIN`/);
    expect(() => open("/nonexistent")).toThrow(expect.objectContaining({ code: "ca_not_initialised" }));
    const empty = scratch();
    mkdirSync(join(empty, "ca"), { mode: 0o700 });
    expect(() => open(empty)).toThrow(expect.objectContaining({ code: "ca_not_initialised" }));
  });

  test.each(["node.key", "node.pem", "bundle.pem", "node.json"])(
    "openAuthority() refuses when others can read %s or it is missing",
    (name) => {
      const copy = copyState();
      chmodSync(join(copy, "ca", name), 0o644);
      expect(() => open(copy)).toThrow(expect.objectContaining({ code: "state_not_private" }));
      rmSync(join(copy, "ca", name));
      expect(() => open(copy)).toThrow();
    },
  );

  test.each([".", "ca"])("openAuthority() refuses when others can enter the directory %s", (name) => {
    const copy = copyState();
    chmodSync(join(copy, name), 0o710);
    expect(() => open(copy)).toThrow(expect.objectContaining({ code: "state_not_private" }));
  });

  const spoiled: [name: string, code: string, content: string][] = [
    ["node.key", "ca_key_invalid", "nonsense"],
    ["node.key", "ca_key_invalid", ""],
    ["node.key", "state_too_large", "x".repeat(2000)],
    ["node.pem", "ca_state_invalid", ""],
    ["node.pem", "ca_state_invalid", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"],
    ["bundle.pem", "ca_state_invalid", "not PEM"],
    ["node.json", "ca_state_invalid", "{"],
    ["node.json", "ca_state_invalid", "null"],
    ["node.json", "ca_state_invalid", "{}"],
    [
      "node.json",
      "ca_state_invalid",
      '{"version":2,"trustDomain":"example.org","nodeName":"a","idPrefixes":["spiffe://example.org/"]}',
    ],
    ["node.json", "ca_state_invalid", '{"version":1,"trustDomain":"example.org","nodeName":"a","idPrefixes":[]}'],
    ["node.json", "ca_state_invalid", '{"version":1,"trustDomain":"example.org","nodeName":"a","idPrefixes":[7]}'],
    [
      "node.json",
      "ca_state_invalid",
      '{"version":1,"trustDomain":"example.com","nodeName":"a","idPrefixes":["spiffe://example.com/"]}',
    ],
    [
      "node.json",
      "ca_state_invalid",
      '{"version":1,"trustDomain":"example.org","nodeName":"a","idPrefixes":["spiffe://example.com/"]}',
    ],
  ];
  test.each(spoiled)("openAuthority() refuses when %s is spoiled, with %s", (name, code, content) => {
    const copy = copyState();
    writeFileSync(join(copy, "ca", name), content);
    expect(() => open(copy)).toThrow(expect.objectContaining({ code }));
  });

  test("openAuthority() refuses parts of two CAs put together", async () => {
    const other = scratch();
    await initTrustDomain({ stateDir: other, trustDomain: "example.org", nodeName: "node-1", clock });
    for (const name of ["node.key", "node.pem", "bundle.pem"]) {
      const copy = copyState();
      writeFileSync(join(copy, "ca", name), readFileSync(join(other, "ca", name)));
      expect(() => open(copy)).toThrow(expect.objectContaining({ code: "ca_state_invalid" }));
    }
  });

  test("openAuthority() refuses an intermediate in the place of a root", () => {
    const copy = copyState();
    writeFileSync(join(copy, "ca", "bundle.pem"), readFileSync(join(copy, "ca", "node.pem")));
    expect(() => open(copy)).toThrow(expect.objectContaining({ code: "ca_state_invalid" }));
  });

  test("openAuthority() works without the root key, and no message of it ever holds a key", () => {
    const copy = copyState();
    rmSync(join(copy, "ca", "root.key"));
    const info = open(copy).info();
    expect(info.holdsRootKey).toBe(false);
    expect(info.warnings).toHaveLength(1);
  });
});
