// The fingerprint of a trust bundle: what two people compare before one trusts the other. Of its keys alone, not of how they are written.

import { createHash, hash } from "node:crypto";
import type { JwtKey, TrustBundle } from "./trust_bundle.ts";

type Keys = Pick<TrustBundle, "trustDomain" | "x509" | "jwt" | "wit">;

/** `sha256:` and 64 hexadecimal digits, the same for every document with these keys; sequence number and refresh hint do not count. */
export function fingerprintBundle({ trustDomain, x509, jwt, wit = [] }: Keys): string {
  const lines = [
    ...x509.map((certificate) => `x509-svid ${hash("sha256", certificate, "hex")}`),
    ...jwt.map((key) => `jwt-svid ${describeKey(key)}`),
    ...wit.map((key) => `wit-svid ${describeKey(key)}`),
  ];
  const digest = createHash("sha256").update(`riprap bundle 1 ${trustDomain}\n`);
  for (const line of [...new Set(lines)].sort()) digest.update(`${line}\n`);
  return `sha256:${digest.digest("hex")}`;
}

function describeKey({ keyId, key }: JwtKey): string {
  const spki = key.export({ type: "spki", format: "der" });
  return `${hash("sha256", spki, "hex")} ${JSON.stringify(keyId)}`;
}
