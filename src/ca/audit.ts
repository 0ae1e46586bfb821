// Reads what was signed out of the journals: each SVID with whom it was for, which rule and labels gave it, and whether it is revoked. Changes nothing.

import type { Store } from "../store.ts";
import { Journal, type SvidRecord } from "./journal.ts";
import { openTokenJournal, type TokenRecord } from "./token_journal.ts";

/** A record is some hundred bytes, and a thousand more than a person reads. */
export const RECORDS_MAX = 10_000;

export interface SignedSvid {
  readonly type: "x509" | "jwt" | "wit";
  /** The serial number in lower-case hexadecimal, or the `jti`. */
  readonly id: string;
  readonly spiffeId: string;
  /** Key identifier of the intermediate in hexadecimal, or the `kid`. */
  readonly authority: string;
  readonly signedAt: Date;
  readonly notAfter: Date;
  /** Of a JWT-SVID. */
  readonly audience?: readonly string[];
  readonly revoked?: { readonly reason: string; readonly at: Date };
  /** `by` (kernel, workload-api, a command), `rule`, `because` (the labels that matched), `pid`, `exe`, … */
  readonly context: Readonly<Record<string, unknown>>;
}

export interface SignedQuery {
  readonly spiffeId?: string;
  readonly type?: SignedSvid["type"];
  /** 1 to RECORDS_MAX. */
  readonly limit: number;
}

/** The latest first. */
export function listSigned(store: Store, { spiffeId, type, limit }: SignedQuery): readonly SignedSvid[] {
  const most = Math.min(Math.max(1, limit), RECORDS_MAX);
  const only = {
    ...(spiffeId === undefined ? {} : { spiffeId }),
    ...(type === "jwt" || type === "wit" ? { kind: type } : {}),
  };
  const x509 = type === undefined || type === "x509" ? new Journal(store).latestSvids(most, spiffeId) : [];
  const tokens = type === "x509" ? [] : openTokenJournal(store).latest(most, only);
  return [...x509.map(ofX509), ...tokens.map(ofToken)]
    .sort((a, b) => b.signedAt.getTime() - a.signedAt.getTime())
    .slice(0, most);
}

/** The X509-SVID of a serial number in hexadecimal. */
export function findSigned(store: Store, serial: string): SignedSvid | undefined {
  const record = new Journal(store).findSvid(Buffer.from(serial, "hex"));
  return record === undefined ? undefined : ofX509(record);
}

function ofX509(record: SvidRecord): SignedSvid {
  const { serial, spiffeId, issuer, signedAt, notAfter, context, revokedAt, reason } = record;
  return {
    type: "x509",
    id: Buffer.from(serial).toString("hex"),
    spiffeId,
    authority: Buffer.from(issuer).toString("hex"),
    signedAt: new Date(signedAt),
    notAfter: new Date(notAfter),
    ...(revokedAt === null || reason === null ? {} : { revoked: { reason, at: new Date(revokedAt) } }),
    context: JSON.parse(context),
  };
}

function ofToken({ kind, tokenId, spiffeId, keyId, issuedAt, expiresAt, audience, context }: TokenRecord): SignedSvid {
  return {
    type: kind,
    id: tokenId,
    spiffeId,
    authority: keyId,
    signedAt: new Date(issuedAt * 1000),
    notAfter: new Date(expiresAt * 1000),
    ...(kind === "jwt" ? { audience } : {}),
    context: JSON.parse(context),
  };
}
