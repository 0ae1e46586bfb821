// The CA that the broker's certificates are held against, as a file of PEM and as the octets that a token has room for. Decides nothing.

import { readFileSync } from "node:fs";
import { describeError, RiprapError } from "../../error.ts";
import { TOKEN_CA_BYTES_MAX, TOKEN_CA_MAX } from "../../federation/token.ts";
import { certificatesInPem } from "../../pem.ts";

const CA_BYTES_MAX = 262_144;

/** PEM. Throws RiprapError `fleet_credentials`. */
export function readBrokerCa(path: string): string {
  try {
    const text = readFileSync(path, "utf8");
    if (text.length <= CA_BYTES_MAX && text.includes("BEGIN CERTIFICATE")) return text;
    throw new RangeError("it is no list of PEM certificates");
  } catch (cause) {
    const fact = `Cannot use the CA of the NATS servers, ${path}: ${describeError(cause)}`;
    throw new RiprapError("fleet_credentials", fact, { cause });
  }
}

/** The certificates as a token carries them; undefined when they are too many or too large for it. */
export function certificatesForToken(pem: string): readonly Uint8Array[] | undefined {
  const certificates = certificatesInPem(pem);
  const size = certificates.reduce((sum, { length }) => sum + length, 0);
  return certificates.length > TOKEN_CA_MAX || size > TOKEN_CA_BYTES_MAX ? undefined : certificates;
}
