// Builds certificates that no CA of ours would sign, with @peculiar/x509 alone: nothing of src/ca/ takes part, so that its mistakes do not cancel out.
import {
  AuthorityKeyIdentifierExtension,
  BasicConstraintsExtension,
  ExtendedKeyUsageExtension,
  Extension,
  type JsonGeneralNames,
  KeyUsageFlags,
  KeyUsagesExtension,
  SubjectAlternativeNameExtension,
  SubjectKeyIdentifierExtension,
  X509CertificateGenerator,
} from "@peculiar/x509";

export const P256 = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" };
export const START = Date.parse("2026-11-21T12:00:00Z");
export const HOUR = 3600 * 1000;

/** One certificate to be; every field has the value of a good chain unless it is given. `null` leaves an extension out. */
export interface Forgery {
  subject?: string;
  issuer?: string;
  serial?: string;
  notBefore?: number;
  notAfter?: number;
  keys?: CryptoKeyPair;
  algorithm?: { name: string; hash?: string };
  signWith?: CryptoKeyPair;
  names?: JsonGeneralNames | null;
  namesCritical?: boolean;
  constraints?: { ca: boolean; pathLength?: number; critical?: boolean } | null;
  usage?: number | null;
  usageCritical?: boolean;
  extendedUsage?: string[] | null;
  /** DER of a NameConstraints. */
  nameConstraints?: Uint8Array | null;
  subjectKeyId?: string | null;
  authorityKeyId?: string | null;
  extra?: Extension[];
}

export interface ForgedChain {
  leaf: Uint8Array;
  intermediate: Uint8Array;
  root: Uint8Array;
  keys: { leaf: CryptoKeyPair; intermediate: CryptoKeyPair; root: CryptoKeyPair };
}

interface KeyAlgorithm {
  name: string;
  namedCurve?: string;
  hash?: string;
  modulusLength?: number;
  publicExponent?: Uint8Array;
}

export function makeKeys(algorithm: KeyAlgorithm = P256): Promise<CryptoKeyPair> {
  return crypto.subtle.generateKey(algorithm, true, ["sign", "verify"]) as Promise<CryptoKeyPair>;
}

export async function pointOf(keys: CryptoKeyPair): Promise<Uint8Array> {
  return new Uint8Array(await crypto.subtle.exportKey("raw", keys.publicKey));
}

/** Keys are the slow part and never what a test is about: made once, used by every chain. */
let sharedKeys: Promise<ForgedChain["keys"]> | undefined;

export function keysOfForge(): Promise<ForgedChain["keys"]> {
  sharedKeys ??= Promise.all([makeKeys(), makeKeys(), makeKeys()]).then(([leaf, intermediate, root]) => ({
    leaf,
    intermediate,
    root,
  }));
  return sharedKeys;
}

/** A chain of leaf, intermediate and root for `spiffe://example.org/a`, good but for what the forgeries change. */
export async function forgeChain(
  forgeries: { leaf?: Forgery; intermediate?: Forgery; root?: Forgery } = {},
): Promise<ForgedChain> {
  const keys = await keysOfForge();
  const ca = KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign;
  const own: JsonGeneralNames = [{ type: "url", value: "spiffe://example.org" }];
  const root: Forgery = {
    subject: "CN=root",
    issuer: "CN=root",
    serial: "41",
    keys: keys.root,
    signWith: keys.root,
    names: own,
    constraints: { ca: true },
    usage: ca,
    notAfter: START + 1000 * HOUR,
    ...forgeries.root,
  };
  const intermediate: Forgery = {
    subject: "CN=node",
    issuer: "CN=root",
    serial: "42",
    keys: keys.intermediate,
    signWith: root.keys ?? keys.root,
    names: own,
    constraints: { ca: true, pathLength: 0 },
    usage: ca,
    nameConstraints: permitUri("example.org"),
    notAfter: START + 100 * HOUR,
    ...forgeries.intermediate,
  };
  const leaf: Forgery = {
    subject: "CN=leaf",
    issuer: "CN=node",
    serial: "43",
    keys: keys.leaf,
    signWith: intermediate.keys ?? keys.intermediate,
    names: [{ type: "url", value: "spiffe://example.org/a" }],
    constraints: { ca: false },
    usage: KeyUsageFlags.digitalSignature,
    extendedUsage: ["1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.2"],
    ...forgeries.leaf,
  };
  const [leafDer, intermediateDer, rootDer] = await Promise.all([leaf, intermediate, root].map(forge));
  return {
    leaf: leafDer as Uint8Array,
    intermediate: intermediateDer as Uint8Array,
    root: rootDer as Uint8Array,
    keys,
  };
}

export async function forge(forgery: Forgery): Promise<Uint8Array> {
  const shared = await keysOfForge();
  const keys = forgery.keys ?? shared.leaf;
  const signer = forgery.signWith ?? shared.root;
  const extensions: Extension[] = [...(forgery.extra ?? [])];
  const { constraints, usage, extendedUsage, names, nameConstraints } = forgery;
  if (constraints)
    extensions.push(
      new BasicConstraintsExtension(constraints.ca, constraints.pathLength, constraints.critical ?? true),
    );
  if (typeof usage === "number") extensions.push(new KeyUsagesExtension(usage, forgery.usageCritical ?? true));
  if (extendedUsage) extensions.push(new ExtendedKeyUsageExtension(extendedUsage));
  if (names) extensions.push(new SubjectAlternativeNameExtension(names, forgery.namesCritical ?? false));
  if (nameConstraints) extensions.push(new Extension("2.5.29.30", true, Uint8Array.from(nameConstraints)));
  if (forgery.subjectKeyId) extensions.push(new SubjectKeyIdentifierExtension(forgery.subjectKeyId));
  if (forgery.authorityKeyId) extensions.push(new AuthorityKeyIdentifierExtension(forgery.authorityKeyId));
  const certificate = await X509CertificateGenerator.create({
    subject: forgery.subject ?? "CN=x",
    issuer: forgery.issuer ?? "CN=root",
    serialNumber: forgery.serial ?? "44",
    notBefore: new Date(forgery.notBefore ?? START - HOUR),
    notAfter: new Date(forgery.notAfter ?? START + HOUR),
    publicKey: keys.publicKey,
    signingKey: signer.privateKey,
    signingAlgorithm: forgery.algorithm ?? P256,
    extensions,
  });
  return new Uint8Array(certificate.rawData);
}

/** A NameConstraints extension with subtrees of one tag (URI 0x86, DNS 0x82). */
export function nameConstraintsDer(options: { permitted?: string[]; excluded?: string[]; tag?: number }): Uint8Array {
  const { permitted = [], excluded = [], tag = 0x86 } = options;
  const subtrees = (outer: number, bases: string[]) =>
    bases.length === 0
      ? Buffer.alloc(0)
      : short(outer, ...bases.map((base) => short(0x30, short(tag, Buffer.from(base, "latin1")))));
  return short(0x30, subtrees(0xa0, permitted), subtrees(0xa1, excluded));
}

export function permitUri(host: string): Uint8Array {
  return nameConstraintsDer({ permitted: [host] });
}

/** Tag, one octet of length, content: all that constraints of tests need. */
export function short(tag: number, ...contents: Uint8Array[]): Buffer {
  const content = Buffer.concat(contents);
  if (content.length > 127) throw new RangeError("too long for the short form");
  return Buffer.concat([Buffer.of(tag, content.length), content]);
}
