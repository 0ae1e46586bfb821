// The messages of the SPIFFE Workload API by the field numbers of its standard: answers written, requests read. Pure.

import type { JsonValue } from "../../json.ts";
import { concat, delimited, double, integer, mapEntry, readFields, textsOf } from "./protobuf.ts";

export interface X509SvidAnswer {
  readonly spiffeId: string;
  /** DER, leaf first. */
  readonly chain: readonly Uint8Array[];
  /** PKCS#8 DER. */
  readonly privateKey: Uint8Array;
  /** DER of the roots of its trust domain. */
  readonly bundle: readonly Uint8Array[];
}

/** SPIFFE ID of a trust domain → its bundle as that message has it. */
export type BundleMap = ReadonlyMap<string, Uint8Array>;

/** X509SVIDResponse; the first SVID is the default one. `federated`: the roots of other trust domains. */
export function encodeX509SvidResponse(svids: readonly X509SvidAnswer[], federated: BundleMap = new Map()): Uint8Array {
  return concat([
    ...svids.map(({ spiffeId, chain, privateKey, bundle }) =>
      delimited(
        1,
        concat([
          delimited(1, spiffeId),
          delimited(2, concat(chain)),
          delimited(3, privateKey),
          delimited(4, concat(bundle)),
        ]),
      ),
    ),
    ...[...federated].map(([trustDomainId, bundle]) => mapEntry(3, trustDomainId, bundle)),
  ]);
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
