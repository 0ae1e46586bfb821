// The messages of the SPIFFE Workload API by the field numbers of its standard: answers written, requests read. Pure.

import type { JsonValue } from "../../json.ts";
import { concat, delimited, double, headBytes, integer, mapEntry, putHead, readFields, textsOf } from "./protobuf.ts";

export interface X509SvidAnswer {
  readonly spiffeId: string;
  /** DER, leaf first. */
  readonly chain: readonly Uint8Array[];
  /** PKCS#8 DER. */
  readonly privateKey: Uint8Array;
}

/** SPIFFE ID of a trust domain → its bundle as that message has it. */
export type BundleMap = ReadonlyMap<string, Uint8Array>;

/** What every X509SVIDResponse holds beside the SVID, until the bundles change. */
export interface EncodedRoots {
  /** Field 4 of an X509SVID. */
  readonly own: Uint8Array;
  /** Fields 3 of the response. */
  readonly federated: Uint8Array;
}

/** `own`: DER of the roots of the SVID's trust domain; `federated`: those of others. */
export function encodeRoots(own: readonly Uint8Array[], federated: BundleMap): EncodedRoots {
  const entries = [...federated].map(([trustDomainId, bundle]) => mapEntry(3, trustDomainId, bundle));
  return { own: delimited(4, concat(own)), federated: concat(entries) };
}

/** X509SVIDResponse with one SVID: of so many a second that each octet is written once. */
export function encodeX509SvidResponse({ spiffeId, chain, privateKey }: X509SvidAnswer, roots: EncodedRoots): Buffer {
  const id = Buffer.from(spiffeId, "utf8");
  const chainBytes = chain.reduce((sum, { length }) => sum + length, 0);
  const head = headBytes(1, id.length) + headBytes(2, chainBytes) + headBytes(3, privateKey.length);
  const svidBytes = head + id.length + chainBytes + privateKey.length + roots.own.length;
  const message = Buffer.allocUnsafe(headBytes(1, svidBytes) + svidBytes + roots.federated.length);
  let at = putHead(message, 0, { number: 1, length: svidBytes });
  const put = (bytes: Uint8Array) => {
    message.set(bytes, at);
    at += bytes.length;
  };
  at = putHead(message, at, { number: 1, length: id.length });
  put(id);
  at = putHead(message, at, { number: 2, length: chainBytes });
  for (const certificate of chain) put(certificate);
  at = putHead(message, at, { number: 3, length: privateKey.length });
  put(privateKey);
  put(roots.own);
  put(roots.federated);
  return message;
}

/** X509BundlesResponse: DER certificates, one after another. */
export function encodeX509BundlesResponse(bundles: BundleMap): Uint8Array {
  return concat([...bundles].map(([trustDomainId, bundle]) => mapEntry(2, trustDomainId, bundle)));
}

/** JWTSVIDResponse */
export function encodeJwtSvidResponse(svids: readonly { spiffeId: string; token: string }[]): Uint8Array {
  return concat(
    svids.map(({ spiffeId, token }) => delimited(1, concat([delimited(1, spiffeId), delimited(2, token)]))),
  );
}

/** JWTBundlesResponse: each a JWK Set in JSON. */
export function encodeJwtBundlesResponse(bundles: BundleMap): Uint8Array {
  return concat([...bundles].map(([trustDomainId, bundle]) => mapEntry(1, trustDomainId, bundle)));
}

/** WITSVIDResponse; the key is a JWK in JSON. */
export function encodeWitSvidResponse(
  svids: readonly { spiffeId: string; token: string; privateKey: string }[],
): Uint8Array {
  return concat(
    svids.map(({ spiffeId, token, privateKey }) =>
      delimited(1, concat([delimited(1, spiffeId), delimited(2, token), delimited(3, privateKey)])),
    ),
  );
}

/** WITBundlesResponse: each a JWK Set in JSON, as text. */
export function encodeWitBundlesResponse(bundles: ReadonlyMap<string, string>): Uint8Array {
  return concat([...bundles].map(([trustDomainId, bundle]) => mapEntry(1, trustDomainId, Buffer.from(bundle))));
}

/** ValidateJWTSVIDResponse */
export function encodeValidateResponse(spiffeId: string, claims: Readonly<Record<string, JsonValue>>): Uint8Array {
  return concat([delimited(1, spiffeId), delimited(2, encodeStruct(claims))]);
}

/** A request without fields; RiprapError `message_invalid` when it is no message at all. */
export function parseEmptyRequest(message: Uint8Array): void {
  readFields(message);
}

/** JWTSVIDRequest. RiprapError `message_invalid`. */
export function parseJwtSvidRequest(message: Uint8Array): { audience: readonly string[]; spiffeId: string } {
  const fields = readFields(message);
  return { audience: textsOf(fields, 1), spiffeId: textsOf(fields, 2).at(-1) ?? "" };
}

/** WITSVIDRequest: the SPIFFE ID that is asked for, or nothing. RiprapError `message_invalid`. */
export function parseWitSvidRequest(message: Uint8Array): string {
  return textsOf(readFields(message), 1).at(-1) ?? "";
}

/** ValidateJWTSVIDRequest. RiprapError `message_invalid`. */
export function parseValidateRequest(message: Uint8Array): { audience: string; token: string } {
  const fields = readFields(message);
  return { audience: textsOf(fields, 1).at(-1) ?? "", token: textsOf(fields, 2).at(-1) ?? "" };
}

/** google.protobuf.Struct */
function encodeStruct(value: Readonly<Record<string, JsonValue>>): Uint8Array {
  return concat(Object.entries(value).map(([key, member]) => mapEntry(1, key, encodeValue(member))));
}

/** google.protobuf.Value: a number there is a double, so what JSON has above 2^53 comes near. */
function encodeValue(value: JsonValue): Uint8Array {
  if (value === null) return integer(1, 0);
  if (typeof value === "number" || typeof value === "bigint") return double(2, Number(value));
  if (typeof value === "string") return delimited(3, value);
  if (typeof value === "boolean") return integer(4, value ? 1 : 0);
  if (Array.isArray(value)) return delimited(6, concat(value.map((item) => delimited(1, encodeValue(item)))));
  return delimited(5, encodeStruct(value as Readonly<Record<string, JsonValue>>));
}
