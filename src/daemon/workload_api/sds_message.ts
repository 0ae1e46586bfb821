// The messages of Envoy's secret discovery (xDS v3) by their field numbers: requests read, answers written. Pure.

import { concat, delimited, lastOf, readFields, readText, textsOf, type WireField } from "./protobuf.ts";

export const SECRET_TYPE = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";
const VALIDATOR_TYPE = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.SPIFFECertValidatorConfig";
const VALIDATOR_NAME = "envoy.tls.cert_validator.spiffe";
/** From this minor version of Envoy 1 on its SPIFFE validator is there. */
const VALIDATOR_SINCE = 18n;
/** In the node's metadata: the operator wants plain roots. */
const PLAIN_ROOTS = "disable_spiffe_cert_validation";
/** A name is a SPIFFE ID or a word. */
const NAME_BYTES_MAX = 2048;
export const NAMES_MAX = 256;

/** What both ways of asking have in common. */
interface SecretRequest {
  readonly typeUrl: string;
  /** Of the answer that this one speaks of; empty: of none. */
  readonly nonce: string;
  /** Why that answer was not taken. */
  readonly error: string | undefined;
  /** Does this Envoy have the SPIFFE validator? Undefined: the request does not say who asks. */
  readonly hasValidator: boolean | undefined;
}

export interface DiscoveryRequest extends SecretRequest {
  readonly version: string;
  readonly names: readonly string[];
}

export interface DeltaRequest extends SecretRequest {
  readonly subscribe: readonly string[];
  readonly unsubscribe: readonly string[];
  /** Name → version of what the client has from an earlier stream. */
  readonly known: ReadonlyMap<string, string>;
}

export interface SecretResource {
  readonly name: string;
  readonly version: string;
  /** A Secret message. */
  readonly secret: Uint8Array;
}

/** RiprapError `message_invalid`. */
export function parseDiscoveryRequest(message: Uint8Array): DiscoveryRequest {
  const fields = readFields(message);
  return {
    version: textOf(fields, 1),
    names: textsOf(fields, 3),
    ...commonOf(fields, { node: 2, typeUrl: 4, nonce: 5, error: 6 }),
  };
}

/** RiprapError `message_invalid`. */
export function parseDeltaRequest(message: Uint8Array): DeltaRequest {
  const fields = readFields(message);
  const entries = fields.filter(({ number, bytes }) => number === 5 && bytes !== undefined);
  return {
    subscribe: textsOf(fields, 3),
    unsubscribe: textsOf(fields, 4),
    known: new Map(
      entries.map(({ bytes }) => {
        const entry = readFields(bytes as Uint8Array);
        return [textOf(entry, 1), textOf(entry, 2)];
      }),
    ),
    ...commonOf(fields, { node: 1, typeUrl: 2, nonce: 6, error: 7 }),
  };
}

/** Is the name one that could be asked for? */
export function isName(name: string): boolean {
  return name !== "" && Buffer.byteLength(name) <= NAME_BYTES_MAX;
}

/** DiscoveryResponse: the whole state. */
export function encodeDiscoveryResponse(
  resources: readonly SecretResource[],
  { version, nonce }: { readonly version: string; readonly nonce: string },
): Uint8Array {
  return concat([
    ...(version === "" ? [] : [delimited(1, version)]),
    ...resources.map(({ secret }) => delimited(2, any(SECRET_TYPE, secret))),
    delimited(4, SECRET_TYPE),
    ...(nonce === "" ? [] : [delimited(5, nonce)]),
  ]);
}

/** DeltaDiscoveryResponse: what is new, and what is no longer there. */
export function encodeDeltaResponse(
  { changed, removed }: { readonly changed: readonly SecretResource[]; readonly removed: readonly string[] },
  { version, nonce }: { readonly version: string; readonly nonce: string },
): Uint8Array {
  return concat([
    delimited(1, version),
    ...changed.map(({ name, version: own, secret }) =>
      delimited(2, concat([delimited(1, own), delimited(2, any(SECRET_TYPE, secret)), delimited(3, name)])),
    ),
    delimited(4, SECRET_TYPE),
    delimited(5, nonce),
    ...removed.map((name) => delimited(6, name)),
  ]);
}

/** Secret with a TlsCertificate: PEM, and what of it was written is to be wiped by whoever asked. */
export function encodeCertificateSecret(name: string, pem: { chain: Uint8Array; privateKey: Uint8Array }): Uint8Array {
  const certificate = concat([delimited(1, inlineBytes(pem.chain)), delimited(2, inlineBytes(pem.privateKey))]);
  return concat([delimited(1, name), delimited(2, certificate)]);
}

export interface TrustedRoots {
  readonly trustDomain: string;
  readonly pem: Uint8Array;
}

/** Secret with a CertificateValidationContext of roots in one heap: any of them for any ID. */
export function encodeRootsSecret(name: string, { pem }: TrustedRoots): Uint8Array {
  return concat([delimited(1, name), delimited(4, delimited(1, inlineBytes(pem)))]);
}

/** Secret with a CertificateValidationContext of Envoy's SPIFFE validator: each trust domain's IDs by its own roots alone. */
export function encodeValidatorSecret(name: string, domains: readonly TrustedRoots[]): Uint8Array {
  const config = concat(
    domains.map(({ trustDomain, pem }) =>
      delimited(1, concat([delimited(1, trustDomain), delimited(2, inlineBytes(pem))])),
    ),
  );
  const extension = concat([delimited(1, VALIDATOR_NAME), delimited(2, any(VALIDATOR_TYPE, config))]);
  return concat([delimited(1, name), delimited(4, delimited(12, extension))]);
}

function inlineBytes(bytes: Uint8Array): Uint8Array {
  return delimited(2, bytes);
}

function any(type: string, value: Uint8Array): Uint8Array {
  return concat([delimited(1, type), delimited(2, value)]);
}

interface Numbers {
  readonly node: number;
  readonly typeUrl: number;
  readonly nonce: number;
  readonly error: number;
}

function commonOf(fields: readonly WireField[], numbers: Numbers): SecretRequest {
  const node = lastOf(fields, numbers.node);
  const error = lastOf(fields, numbers.error);
  return {
    typeUrl: textOf(fields, numbers.typeUrl),
    nonce: textOf(fields, numbers.nonce),
    error: error === undefined ? undefined : textOf(readFields(error), 2),
    hasValidator: node === undefined ? undefined : knowsValidator(readFields(node)),
  };
}

/** Node: user_agent_build_version, and the wish of the operator in its metadata. */
function knowsValidator(node: readonly WireField[]): boolean {
  const build = lastOf(node, 8);
  const version = build === undefined ? undefined : lastOf(readFields(build), 1);
  if (version === undefined || wantsPlainRoots(lastOf(node, 3))) return false;
  const numbers = readFields(version);
  const numberOf = (number: number) => numbers.findLast((field) => field.number === number)?.value ?? 0n;
  const major = numberOf(1);
  return major > 1n || (major === 1n && numberOf(2) >= VALIDATOR_SINCE);
}

function wantsPlainRoots(metadata: Uint8Array | undefined): boolean {
  for (const { number, bytes } of metadata === undefined ? [] : readFields(metadata)) {
    if (number !== 1 || bytes === undefined) continue;
    const entry = readFields(bytes);
    if (textOf(entry, 1) !== PLAIN_ROOTS) continue;
    const value = readFields(lastOf(entry, 2) ?? new Uint8Array());
    return textOf(value, 3) === "true" || value.some((field) => field.number === 4 && field.value === 1n);
  }
  return false;
}

function textOf(fields: readonly WireField[], number: number): string {
  return readText(lastOf(fields, number) ?? new Uint8Array());
}
