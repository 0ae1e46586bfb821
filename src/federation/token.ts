// Tokens that let one node join: made by an issuing node from its join secret, read by the one who joins. The text is a secret; the record is not.
import { createHmac, hash, randomBytes } from "node:crypto";
import { RiprapError } from "../error.ts";
import type { Admission } from "../fleet.ts";
import { TRUST_DOMAIN_MAX_BYTES, TrustDomain } from "../spiffe_id.ts";
import { deriveKeyPair, expand, HPKE_KEY_BYTES, type HpkeKeyPair } from "./hpke.ts";
import { readNatsProof } from "./nats_proof.ts";
import { OctetReader, OctetWriter } from "./octet.ts";

export const JOIN_SECRET_BYTES = 32;
export const TOKEN_LIFETIME_MIN_MS = 60_000;
/** A token that lies about for longer is one that nobody remembers. */
export const TOKEN_LIFETIME_MAX_MS = 7 * 24 * 3600 * 1000;
export const TOKEN_LIFETIME_DEFAULT_MS = 3600 * 1000;
export const SERVERS_MAX = 8;
const PREFIX = "riprap-join-";
/** 2: with the CA of the broker. */
const FORMAT = 2;
const ID_BYTES = 16;
const SECRET_BYTES = 32;
const FINGERPRINT_BYTES = 32;
const CHECKSUM_BYTES = 4;
/** A credentials file with a few rights in its JWT has 1200. */
const CREDENTIAL_BYTES_MAX = 2048;
/** Two certificates of the largest RSA keys that are usual, or a handful with keys on a curve. */
export const TOKEN_CA_BYTES_MAX = 3072;
export const TOKEN_CA_MAX = 8;
/** More than all fields at their largest have. */
const TEXT_MAX = 10_400;

/** What the bearer holds. */
export interface Token {
  /** 32 hexadecimal digits; the broker sees it. */
  readonly id: string;
  readonly trustDomain: string;
  /** SHA-256 of the root, 64 hexadecimal digits: what is believed. */
  readonly rootFingerprint: string;
  /** HPKE key of the issuing node that made it. */
  readonly issuerKey: Uint8Array;
  readonly secret: Uint8Array;
  readonly expiresAt: number;
  /** `nats://` and `tls://` addresses of the broker. */
  readonly servers: readonly string[];
  /** What lets its bearer speak to the broker to join, and for nothing else: a credentials file or an nkey seed; empty where none is needed. */
  readonly credentials: string;
  /** Certificates that the servers' own are held against, DER; none for those of the system. */
  readonly brokerCa: readonly Uint8Array[];
}

/** What the issuing node keeps of it. Nothing in it lets anybody join. */
export interface TokenRecord {
  readonly id: string;
  readonly admission: Admission;
  readonly createdAt: number;
  readonly expiresAt: number;
  readonly createdBy: string;
  readonly use: TokenUse;
  /** The requests that came and that their own time does not refuse yet: none is answered twice. */
  readonly seen: readonly SeenJoin[];
}

export interface SeenJoin {
  /** Encapsulated key, hexadecimal. */
  readonly enc: string;
  /** When its time is too far in the past, milliseconds. */
  readonly until: number;
}

export type TokenUse =
  | { readonly state: "unused" }
  | { readonly state: "pending" | "approved" | "denied"; readonly bearer: TokenBearer }
  | { readonly state: "used"; readonly bearer: TokenBearer; readonly usedAt: number };

/** Who came with it. */
export interface TokenBearer {
  readonly nodeName: string;
  /** Ed25519 key of its fleet voice, hexadecimal. */
  readonly key: string;
  /** SHA-256 of its certificate request: the same machine asks with the same. */
  readonly csrDigest: string;
  readonly at: number;
}

/** The join secret of an issuing node, opened: 32 random bytes that never leave it. */
export interface JoinSecret {
  readonly keyPair: HpkeKeyPair;
  secretOf(record: Pick<TokenRecord, "id" | "admission" | "expiresAt">): Uint8Array;
}

/** Every token's secret and the HPKE key come from this one, so that a stolen database of tokens opens nothing. */
export function openJoinSecret(master: Uint8Array): JoinSecret {
  if (master.length !== JOIN_SECRET_BYTES) throw new RangeError(`a join secret has ${JOIN_SECRET_BYTES} bytes`);
  const ikm = expand(master, Buffer.from("riprap join key"), HPKE_KEY_BYTES);
  const tokenKey = expand(master, Buffer.from("riprap join token"), SECRET_BYTES);
  return {
    keyPair: deriveKeyPair(ikm),
    secretOf: (record) => Uint8Array.from(createHmac("sha256", tokenKey).update(boundTo(record)).digest()),
  };
}

export interface TokenOptions {
  readonly trustDomain: string;
  readonly rootFingerprint: string;
  readonly servers: readonly string[];
  readonly credentials?: string;
  readonly brokerCa?: readonly Uint8Array[];
  readonly admission: Admission;
  readonly createdBy: string;
  readonly lifetimeMs: number;
}

/** Makes a token. Throws RiprapError `token_lifetime_invalid`, `token_servers_invalid`, `token_credentials_invalid`. */
export function createToken(
  join: JoinSecret,
  options: TokenOptions,
  now: number,
): { text: string; record: TokenRecord } {
  const { lifetimeMs, servers, admission, createdBy } = options;
  if (!Number.isInteger(lifetimeMs) || lifetimeMs < TOKEN_LIFETIME_MIN_MS || lifetimeMs > TOKEN_LIFETIME_MAX_MS) {
    throw new RiprapError("token_lifetime_invalid", "Cannot make a token: give it a life of 1 minute to 7 days");
  }
  if (servers.length === 0 || servers.length > SERVERS_MAX || servers.some((server) => !isServer(server))) {
    const remedy = `give 1 to ${SERVERS_MAX} addresses such as nats://broker.example:4222 or tls://broker.example:4222, without a password; WebSocket (ws://, wss://) is not spoken`;
    throw new RiprapError("token_servers_invalid", `Cannot make a token: ${remedy}`);
  }
  const { trustDomain, rootFingerprint, credentials = "", brokerCa = [] } = options;
  requireCredentials(credentials);
  const id = randomBytes(ID_BYTES).toString("hex");
  const expiresAt = now + lifetimeMs;
  const record: TokenRecord = {
    id,
    admission,
    createdAt: now,
    expiresAt,
    createdBy,
    use: { state: "unused" },
    seen: [],
  };
  const issuerKey = join.keyPair.publicKey;
  const secret = join.secretOf(record);
  return {
    text: writeToken({
      id,
      trustDomain,
      rootFingerprint,
      issuerKey,
      secret,
      expiresAt,
      servers,
      credentials,
      brokerCa,
    }),
    record,
  };
}

/** Says nothing of their text. */
function requireCredentials(credentials: string): void {
  const size = Buffer.byteLength(credentials);
  if (size === 0) return;
  const fault =
    size > CREDENTIAL_BYTES_MAX
      ? `are larger than ${CREDENTIAL_BYTES_MAX} bytes`
      : readNatsProof(Buffer.from(credentials)) === undefined
        ? "are neither a NATS credentials file nor the nkey seed of a user"
        : undefined;
  if (fault !== undefined)
    throw new RiprapError("token_credentials_invalid", `Cannot make a token: the broker credentials ${fault}`);
}

function writeToken(token: Token): string {
  const writer = new OctetWriter()
    .u8(FORMAT)
    .text8(token.trustDomain)
    .raw(Buffer.from(token.rootFingerprint, "hex"))
    .raw(token.issuerKey)
    .raw(Buffer.from(token.id, "hex"))
    .raw(token.secret)
    .u48(token.expiresAt)
    .u8(token.servers.length);
  for (const server of token.servers) writer.text8(server);
  writer.text16(token.credentials).u8(token.brokerCa.length);
  for (const certificate of token.brokerCa) writer.bytes16(certificate);
  const body = writer.end();
  return PREFIX + Buffer.concat([body, checksum(body)]).toString("base64url");
}

/** Throws RiprapError `token_malformed` for what is no token, `token_damaged` for one that was mistyped or cut, `token_servers_invalid`. Says nothing of its text. */
export function parseToken(text: string): Token {
  const trimmed = text.trim();
  if (!trimmed.startsWith(PREFIX) || trimmed.length > TEXT_MAX) {
    throw refused("token_malformed", `it does not begin with ${PREFIX}; copy it whole from \`riprap token create\``);
  }
  const digits = trimmed.slice(PREFIX.length);
  const bytes = Buffer.from(digits, "base64url");
  const body = bytes.subarray(0, -CHECKSUM_BYTES);
  const isWhole = bytes.toString("base64url") === digits && checksum(body).equals(bytes.subarray(-CHECKSUM_BYTES));
  if (!isWhole) throw refused("token_damaged", "it was mistyped, or cut on the way; copy it whole");
  try {
    return requireServers(readToken(new OctetReader(body)));
  } catch (cause) {
    if (cause instanceof RiprapError && cause.code === "token_servers_invalid") throw cause;
    throw refused("token_malformed", "it is of another version of riprap; use the same on all nodes", cause);
  }
}

function readToken(reader: OctetReader): Token {
  if (reader.u8() !== FORMAT) throw new Error("another format");
  const trustDomain = TrustDomain.parse(reader.text8(TRUST_DOMAIN_MAX_BYTES)).name;
  const rootFingerprint = reader.hex(FINGERPRINT_BYTES);
  const issuerKey = reader.raw(HPKE_KEY_BYTES);
  const id = reader.hex(ID_BYTES);
  const secret = reader.raw(SECRET_BYTES);
  const expiresAt = reader.u48();
  const servers = Array.from({ length: reader.u8() }, () => reader.text8());
  const credentials = reader.text16(CREDENTIAL_BYTES_MAX);
  const brokerCa = Array.from({ length: reader.u8() }, () => reader.bytes16(TOKEN_CA_BYTES_MAX));
  reader.end();
  return { id, trustDomain, rootFingerprint, issuerKey, secret, expiresAt, servers, credentials, brokerCa };
}

function requireServers(token: Token): Token {
  const { servers } = token;
  if (servers.length === 0 || servers.length > SERVERS_MAX) throw new Error("no servers");
  if (servers.every(isServer)) return token;
  const remedy =
    "make another with --server nats://HOST:4222 or tls://HOST:4222; WebSocket (ws://, wss://) is not spoken";
  throw refused("token_servers_invalid", `it names a broker by a URL that is not nats:// or tls://; ${remedy}`);
}

/** What a token may be is part of its secret: a record that was changed afterwards opens no request. */
function boundTo({ id, admission, expiresAt }: Pick<TokenRecord, "id" | "admission" | "expiresAt">): Uint8Array {
  const { nodeName, group, idPrefixes, needsApproval, mayReplace } = admission;
  const writer = new OctetWriter()
    .text8(id)
    .u48(expiresAt)
    .text8(nodeName ?? "")
    .text8(group);
  writer
    .u8(needsApproval ? 1 : 0)
    .u8(mayReplace ? 1 : 0)
    .u16(idPrefixes.length);
  for (const prefix of idPrefixes) writer.text16(prefix);
  return writer.end();
}

/** A word of the URL alone: a password in it would be printed with every error. */
function isServer(text: string): boolean {
  return text.length <= 255 && /^(nats|tls):\/\/[A-Za-z0-9._:[\]-]+$/.test(text);
}

function checksum(body: Uint8Array): Buffer {
  return hash("sha256", body, "buffer").subarray(0, CHECKSUM_BYTES);
}

function refused(code: string, fact: string, cause?: unknown): RiprapError {
  return new RiprapError(code, `Cannot use the token: ${fact}`, { cause });
}
