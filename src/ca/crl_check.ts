// Whether a CRL that somebody was handed is one to go by: of a CA of this trust domain, whole, signed and in force; and what it lists.

import type { Clock } from "../clock.ts";
import { RiprapError } from "../error.ts";
import type { Certificate } from "./certificate.ts";
import { issuersFault } from "./chain.ts";
import { parseCrl, requireCrl } from "./crl.ts";
import { parseCertificates, readCertificates, readRecord, requireCa } from "./state.ts";

const PEM = /^-----BEGIN X509 CRL-----\s+([A-Za-z0-9+/=\s]+)-----END X509 CRL-----\s*$/;

export interface CrlCheckOptions {
  readonly stateDir: string;
  readonly clock: Clock;
  /** One CRL in PEM. */
  readonly crl: string;
  /** Certificates of its issuer in PEM, up to but without the root; this node's own intermediate unless given. */
  readonly issuer?: string;
}

export interface CheckedCrl {
  /** Decimal digits: it may be greater than what JSON readers take for a number. */
  readonly number: string;
  readonly thisUpdate: string;
  readonly nextUpdate: string;
  /** In lower-case hexadecimal. */
  readonly revoked: readonly { readonly serial: string; readonly revokedAt: string }[];
}

/** Throws RiprapError `crl_malformed`, `der_malformed`, `crl_refused` with the reason, and what openAuthority throws for the files. */
export function checkCrl({ stateDir, clock, crl: text, issuer }: CrlCheckOptions): CheckedCrl {
  const body = PEM.exec(text.trim())?.[1];
  if (body === undefined)
    throw new RiprapError("crl_malformed", "Cannot read the CRL: it is not one CRL in PEM (`openssl crl -inform DER`)");
  const files = requireCa(stateDir);
  const issuers = issuer === undefined ? readCertificates(files.nodeChain) : parseCertificates(issuer);
  const { trustDomain } = readRecord(files.record);
  const anchors = readCertificates(files.bundle);
  const fault = issuersFault(issuers as [Certificate, ...Certificate[]], { trustDomain, anchors });
  if (fault !== undefined)
    throw new RiprapError("crl_refused", `Cannot take the CRL: its issuer is no CA of ${trustDomain}: ${fault}`);
  const crl = parseCrl(Buffer.from(body, "base64"));
  requireCrl(crl, { issuer: issuers[0] as Certificate, now: clock.now() });
  const { number, thisUpdate, nextUpdate, serials } = crl;
  return {
    number: number.toString(),
    thisUpdate: new Date(thisUpdate).toISOString(),
    nextUpdate: new Date(nextUpdate).toISOString(),
    revoked: [...serials].map(([serial, at]) => ({ serial, revokedAt: new Date(at).toISOString() })),
  };
}
