// Chains that a peer of ours should not have: forged under an intermediate that the trust domain's root did sign, whose key is ours.
import { createPrivateKey } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { KeyUsageFlags, X509Certificate } from "@peculiar/x509";
import { createEnrolmentRequest } from "../../../src/ca.ts";
import { systemClock } from "../../../src/clock.ts";
import { encodeEnrolmentRequest, parseEnrolmentGrant } from "../../../src/federation/enrolment.ts";
import { type Forgery, forge, HOUR, keysOfForge, makeKeys, P256, permitUri } from "../../ca/forge.ts";
import type { RiprapNode } from "../node.ts";

export interface ForgedPeer {
  /** Path below /srv/peer to PEM. */
  readonly files: Readonly<Record<string, string>>;
}

/** What each chain is called, and what is wrong with it. `good` is not. */
export type ChainName =
  | "good"
  | "expired"
  | "not_yet_valid"
  | "foreign_root"
  | "foreign_domain"
  | "mis_constrained"
  | "below_leaf_ca"
  | "ca_as_leaf"
  | "two_uris"
  | "no_uri"
  | "no_usage"
  | "rsa_key"
  | "other_node";

/** Joins a node of the name `rogue` whose key the test holds, limited to IDs below spiffe://DOMAIN/rogue/, and forges its chains. */
export async function forgePeer(node: RiprapNode, domain: string): Promise<ForgedPeer> {
  const { intermediate, roots, keys } = await enrolRogue(node, domain);
  const shared = await keysOfForge();
  const now = Date.now();
  const authority = new X509Certificate(Uint8Array.from(intermediate));
  const leaf: Forgery = {
    subject: "CN=peer",
    issuer: authority.subject,
    serial: "51",
    signWith: keys,
    notBefore: now - HOUR,
    notAfter: now + HOUR,
    names: [{ type: "url", value: `spiffe://${domain}/rogue/peer` }],
    constraints: { ca: false },
    usage: KeyUsageFlags.digitalSignature,
    extendedUsage: ["1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.2"],
  };
  const below: Forgery = {
    ...leaf,
    subject: "CN=below",
    serial: "52",
    keys: shared.root,
    names: [{ type: "url", value: `spiffe://${domain}` }],
    constraints: { ca: true, pathLength: 0 },
    usage: KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign,
    extendedUsage: null,
    nameConstraints: permitUri(domain),
  };
  const stranger: Forgery = {
    ...below,
    subject: "CN=stranger",
    issuer: "CN=stranger root",
    signWith: shared.intermediate,
  };
  const rsa = await makeKeys({
    name: "RSASSA-PKCS1-v1_5",
    hash: "SHA-256",
    modulusLength: 2048,
    publicExponent: Uint8Array.of(1, 0, 1),
  } as never);
  const url = (value: string) => ({ type: "url" as const, value });
  const changes: Record<
    Exclude<ChainName, "foreign_root" | "mis_constrained" | "below_leaf_ca" | "ca_as_leaf">,
    Forgery
  > = {
    good: {},
    expired: { notAfter: now - 60_000 },
    not_yet_valid: { notBefore: now + HOUR / 2 },
    foreign_domain: { names: [url("spiffe://elsewhere.test/rogue/peer")] },
    two_uris: { names: [url(`spiffe://${domain}/rogue/peer`), url(`spiffe://${domain}/rogue/other`)] },
    no_uri: { names: [{ type: "dns", value: "peer.test" }] },
    no_usage: { usage: KeyUsageFlags.keyAgreement },
    rsa_key: { keys: rsa },
    other_node: { names: [url(`spiffe://${domain}/victim`)] },
  };
  const underBelow = await forge({ ...leaf, issuer: "CN=below", signWith: shared.root });
  const elsewhere = await forge({ ...below, nameConstraints: permitUri("elsewhere.test") });
  const files: Record<string, string> = {
    "roots.pem": roots.map(pem).join(""),
    "key.key": await pemKey(shared.leaf),
    "rsa.key": await pemKey(rsa),
    "foreign_root.pem":
      pem(await forge({ ...leaf, issuer: "CN=stranger", signWith: shared.root })) + pem(await forge(stranger)),
    "below_leaf_ca.pem": pem(underBelow) + pem(await forge(below)) + pem(intermediate),
    "mis_constrained.pem": pem(underBelow) + pem(elsewhere) + pem(intermediate),
    "ca_as_leaf.pem": pem(await forge({ ...below, keys: shared.leaf })) + pem(intermediate),
  };
  for (const [name, change] of Object.entries(changes))
    files[`${name}.pem`] = pem(await forge({ ...leaf, ...change })) + pem(intermediate);
  return { files };
}

async function enrolRogue(node: RiprapNode, domain: string) {
  const stateDir = mkdtempSync(join(tmpdir(), "riprap-rogue-"));
  try {
    const request = await createEnrolmentRequest({
      stateDir,
      trustDomain: domain,
      nodeName: "rogue",
      clock: systemClock,
      custody: "file",
    });
    await node.vm.put("/root/rogue", encodeEnrolmentRequest(request));
    const signed = await node.riprap("enrol", "sign", "/root/rogue", "--prefix", `spiffe://${domain}/rogue/`);
    const grant = parseEnrolmentGrant(signed.stdout);
    const [intermediate] = grant.chain;
    if (!intermediate) throw new TypeError("A grant without a chain");
    return {
      intermediate,
      roots: grant.roots,
      keys: await importKey(readFileSync(join(stateDir, "ca/enrolment.key"))),
    };
  } finally {
    rmSync(stateDir, { recursive: true, force: true });
  }
}

async function importKey(file: Buffer): Promise<CryptoKeyPair> {
  const key = createPrivateKey(file.includes("-----BEGIN") ? file : { key: file, format: "der", type: "pkcs8" });
  const privateKey = await crypto.subtle.importKey("pkcs8", key.export({ format: "der", type: "pkcs8" }), P256, true, [
    "sign",
  ]);
  // The forge signs with the private half alone.
  return { privateKey, publicKey: privateKey };
}

async function pemKey(keys: CryptoKeyPair): Promise<string> {
  const der = new Uint8Array(await crypto.subtle.exportKey("pkcs8", keys.privateKey));
  return `-----BEGIN PRIVATE KEY-----\n${Buffer.from(der).toString("base64")}\n-----END PRIVATE KEY-----\n`;
}

function pem(der: Uint8Array): string {
  const lines =
    Buffer.from(der)
      .toString("base64")
      .match(/.{1,64}/g) ?? [];
  return `-----BEGIN CERTIFICATE-----\n${lines.join("\n")}\n-----END CERTIFICATE-----\n`;
}
