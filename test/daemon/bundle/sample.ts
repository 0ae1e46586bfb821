// Roots of other trust domains and documents that hold them, made without the code under test.

import {
  BasicConstraintsExtension,
  KeyUsageFlags,
  KeyUsagesExtension,
  SubjectAlternativeNameExtension,
  X509CertificateGenerator,
} from "@peculiar/x509";

const P256 = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" };

/** DER of self-signed roots of a trust domain. */
export async function rootsFor(name: string, count: number): Promise<Uint8Array[]> {
  return await Promise.all(Array.from({ length: count }, (_, i) => makeRoot(name, i)));
}

async function makeRoot(name: string, i: number): Promise<Uint8Array> {
  const keys = (await crypto.subtle.generateKey(P256, true, ["sign", "verify"])) as CryptoKeyPair;
  const certificate = await X509CertificateGenerator.createSelfSigned({
    serialNumber: `0${i + 1}`,
    name: `CN=root ${i}`,
    notBefore: new Date("2026-01-01T00:00:00Z"),
    notAfter: new Date("2036-01-01T00:00:00Z"),
    keys,
    signingAlgorithm: P256,
    extensions: [
      new BasicConstraintsExtension(true, undefined, true),
      new KeyUsagesExtension(KeyUsageFlags.keyCertSign, true),
      new SubjectAlternativeNameExtension([{ type: "url", value: `spiffe://${name}` }]),
    ],
  });
  return new Uint8Array(certificate.rawData);
}

/** A SPIFFE bundle document with these roots. */
export function documentOf(roots: readonly Uint8Array[], sequence: bigint | undefined, refreshHint?: number): string {
  const keys = roots.map((root) => ({ kty: "EC", use: "x509-svid", x5c: [Buffer.from(root).toString("base64")] }));
  const text = JSON.stringify({ keys, spiffe_refresh_hint: refreshHint });
  return sequence === undefined ? text : text.replace(/^\{/, `{"spiffe_sequence":${sequence},`);
}
