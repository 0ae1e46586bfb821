// The two messages of enrolment by token, sealed by HPKE with the token's secret: whoever carries them learns a token's name and sizes. Decides nothing.
import { randomBytes } from "node:crypto";
import { describeError, RiprapError } from "../error.ts";
import { ED25519_KEY_BYTES, ED25519_SIGNATURE_BYTES, type Signer, verifySignature } from "./curve.ts";
import { HPKE_KEY_BYTES, type HpkeContext, openAead, sealAead, setUpRecipient, setUpSender } from "./hpke.ts";
import { OctetReader, OctetWriter } from "./octet.ts";
import { parseStatement, STATEMENT_BYTES_MAX, type Statement } from "./statement.ts";
import { type JoinSecret, SERVERS_MAX, type Token, type TokenRecord } from "./token.ts";

/** A certificate request and a few names. */
export const JOIN_REQUEST_BYTES_MAX = 64 * 1024;
/** A grant with its certificates, and the statements that the new node needs to believe the rest. */
export const JOIN_REPLY_BYTES_MAX = 480 * 1024;
const FORMAT = 1;
const DOMAIN = "riprap join 1";
const ID_BYTES = 16;
const NONCE_BYTES = 12;
const KEY_BYTES = 16;
const FINGERPRINT_BYTES = 32;
const STATEMENTS_MAX = 256;

/** What the node that joins says of itself. */
export interface JoinRequest {
  /** By its clock, milliseconds. */
  readonly time: number;
  readonly nodeName: string;
  /** Of the root that it was told to believe. */
  readonly rootFingerprint: string;
  /** Ed25519 key of its fleet voice; the request is signed with it. */
  readonly key: Uint8Array;
  /** The enrolment request document for its intermediate. */
  readonly enrolment: string;
  /** Public nkey for the broker; empty without one. */
  readonly nkey: string;
  readonly version: string;
}

export type JoinReply =
  | { readonly outcome: "refused"; readonly code: string; readonly message: string; readonly time: number }
  /** A person has to approve it: ask again. */
  | { readonly outcome: "pending"; readonly time: number }
  | { readonly outcome: "granted"; readonly grant: JoinGrant };

export interface JoinGrant {
  /** The enrolment grant document. */
  readonly enrolment: string;
  /** What leads from the root to this node's own entry in the roster. */
  readonly statements: readonly Statement[];
  readonly servers: readonly string[];
  /** What lets the node speak to the broker from now on; empty where its nkey does. */
  readonly credentials: string;
}

/** Seals a request for the issuing node of the token. A new one each time: the same octets are answered once. */
export function startJoin(
  token: Token,
  request: Omit<JoinRequest, "key" | "rootFingerprint">,
  signer: Signer,
): { bytes: Uint8Array; finish(reply: Uint8Array): JoinReply & { readonly isProven: boolean } } {
  const body = requestBytes({ ...request, key: signer.publicKey, rootFingerprint: token.rootFingerprint });
  const signature = signer.sign(signedBytes(token.id, body));
  const id = Buffer.from(token.id, "hex");
  const { enc, context } = setUpSender(token.issuerKey, {
    info: infoOf(token.trustDomain),
    psk: { secret: token.secret, id },
  });
  const sealed = context.seal(id, new OctetWriter().bytes32(body).raw(signature).end());
  const bytes = new OctetWriter().u8(FORMAT).raw(id).raw(enc).bytes32(sealed).end();
  return { bytes, finish: (reply) => finishJoin(reply, id, context) };
}

export interface SealedJoin {
  readonly tokenId: string;
  readonly enc: Uint8Array;
  readonly sealed: Uint8Array;
}

/** What anybody can read of a request. Throws RiprapError `join_malformed`. */
export function parseJoin(bytes: Uint8Array): SealedJoin {
  try {
    if (bytes.length > JOIN_REQUEST_BYTES_MAX) throw new Error(`it is longer than ${JOIN_REQUEST_BYTES_MAX} bytes`);
    const reader = new OctetReader(bytes);
    if (reader.u8() !== FORMAT) throw new Error("it is of another version of riprap");
    const tokenId = reader.hex(ID_BYTES);
    const enc = reader.raw(HPKE_KEY_BYTES);
    const sealed = reader.bytes32(JOIN_REQUEST_BYTES_MAX);
    reader.end();
    return { tokenId, enc, sealed };
  } catch (cause) {
    throw new RiprapError("join_malformed", `Cannot read the request to join: ${describeError(cause)}`, { cause });
  }
}

export interface OpenedJoin {
  readonly request: JoinRequest;
  readonly enc: string;
  /** Sealed for the one who asked, and for nobody else. */
  seal(reply: JoinReply): Uint8Array;
}

/** Opens a request with the secret of the token that it names. Throws RiprapError `join_forged`: not by a bearer of the token, or changed on the way. */
export function openJoin(
  { tokenId, enc, sealed }: SealedJoin,
  join: JoinSecret,
  { trustDomain, record }: { trustDomain: string; record: TokenRecord },
): OpenedJoin {
  try {
    const id = Buffer.from(tokenId, "hex");
    const psk = { secret: join.secretOf(record), id };
    const context = setUpRecipient(enc, join.keyPair, { info: infoOf(trustDomain), psk });
    const reader = new OctetReader(context.open(id, sealed));
    const body = reader.bytes32(JOIN_REQUEST_BYTES_MAX);
    const signature = reader.raw(ED25519_SIGNATURE_BYTES);
    reader.end();
    const request = readRequest(body);
    if (!verifySignature(signedBytes(tokenId, body), signature, request.key))
      throw new Error("its key did not sign it");
    return { request, enc: Buffer.from(enc).toString("hex"), seal: (reply) => sealReply(reply, id, context) };
  } catch (cause) {
    throw new RiprapError("join_forged", "Cannot open the request to join: it was not made with the token it names", {
      cause,
    });
  }
}

/** To one whose request cannot be opened: a word that anybody could have said, and that proves nothing. */
export function refuseJoin(code: string): Uint8Array {
  return new OctetWriter().u8(FORMAT).u8(0).text8(code).end();
}

/** `isProven`: said by the issuing node itself. Throws RiprapError `join_reply_invalid` for what nobody honest says. */
function finishJoin(
  bytes: Uint8Array,
  id: Uint8Array,
  context: HpkeContext,
): JoinReply & { readonly isProven: boolean } {
  try {
    if (bytes.length > JOIN_REPLY_BYTES_MAX + 64) throw new Error(`it is longer than ${JOIN_REPLY_BYTES_MAX} bytes`);
    const reader = new OctetReader(bytes);
    if (reader.u8() !== FORMAT) throw new Error("it is of another version of riprap");
    const isProven = reader.u8() === 1;
    if (!isProven) {
      const code = reader.text8();
      reader.end();
      if (!/^[a-z_]{1,40}$/.test(code)) throw new Error("its reason is none");
      const message = `Cannot join: the issuing node, or the broker in its name, says ${code}`;
      return { outcome: "refused", code, message, time: 0, isProven };
    }
    const nonce = reader.raw(NONCE_BYTES);
    const sealed = reader.bytes32(JOIN_REPLY_BYTES_MAX);
    reader.end();
    return { ...readReply(openAead({ key: replyKey(context), nonce, aad: id }, sealed)), isProven };
  } catch (cause) {
    throw new RiprapError(
      "join_reply_invalid",
      `Cannot join: the answer is not the issuing node's: ${describeError(cause)}`,
      {
        cause,
      },
    );
  }
}

function sealReply(reply: JoinReply, id: Uint8Array, context: HpkeContext): Uint8Array {
  const nonce = randomBytes(NONCE_BYTES);
  const sealed = sealAead({ key: replyKey(context), nonce, aad: id }, replyBytes(reply));
  return new OctetWriter().u8(FORMAT).u8(1).raw(nonce).bytes32(sealed).end();
}

/** RFC 9180 section 9.8: the answer goes under a key that both export, because a context seals in one direction. */
function replyKey(context: HpkeContext): Uint8Array {
  return context.export(Buffer.from("riprap join reply"), KEY_BYTES);
}

function requestBytes(request: JoinRequest): Uint8Array {
  return new OctetWriter()
    .u48(request.time)
    .text8(request.nodeName)
    .raw(Buffer.from(request.rootFingerprint, "hex"))
    .raw(request.key)
    .bytes32(Buffer.from(request.enrolment))
    .text8(request.nkey)
    .text8(request.version)
    .end();
}

function readRequest(bytes: Uint8Array): JoinRequest {
  const reader = new OctetReader(bytes);
  const [time, nodeName] = [reader.u48(), reader.text8()];
  const rootFingerprint = reader.hex(FINGERPRINT_BYTES);
  const key = reader.raw(ED25519_KEY_BYTES);
  const enrolment = Buffer.from(reader.bytes32(JOIN_REQUEST_BYTES_MAX)).toString("utf8");
  const [nkey, version] = [reader.text8(), reader.text8()];
  reader.end();
  return { time, nodeName, rootFingerprint, key, enrolment, nkey, version };
}

const OUTCOMES = ["refused", "pending", "granted"] as const;

function replyBytes(reply: JoinReply): Uint8Array {
  const writer = new OctetWriter().u8(OUTCOMES.indexOf(reply.outcome));
  if (reply.outcome === "refused") return writer.text8(reply.code).text16(reply.message).u48(reply.time).end();
  if (reply.outcome === "pending") return writer.u48(reply.time).end();
  const { enrolment, statements, servers, credentials } = reply.grant;
  writer.bytes32(Buffer.from(enrolment)).u16(statements.length);
  for (const { bytes } of statements) writer.bytes32(bytes);
  writer.u8(servers.length);
  for (const server of servers) writer.text8(server);
  return writer.text16(credentials).end();
}

function readReply(bytes: Uint8Array): JoinReply {
  const reader = new OctetReader(bytes);
  const outcome = OUTCOMES[reader.u8()];
  let reply: JoinReply;
  if (outcome === "refused") {
    reply = { outcome, code: reader.text8(), message: reader.text16(), time: reader.u48() };
  } else if (outcome === "pending") reply = { outcome, time: reader.u48() };
  else if (outcome === "granted") reply = { outcome, grant: readGrant(reader) };
  else throw new Error("its outcome is none");
  reader.end();
  return reply;
}

function readGrant(reader: OctetReader): JoinGrant {
  const enrolment = Buffer.from(reader.bytes32(JOIN_REPLY_BYTES_MAX)).toString("utf8");
  const count = reader.count16(STATEMENTS_MAX);
  const statements = Array.from({ length: count }, () => parseStatement(reader.bytes32(STATEMENT_BYTES_MAX)));
  const servers = Array.from({ length: reader.u8() }, () => reader.text8());
  if (servers.length > SERVERS_MAX) throw new Error(`it names more than ${SERVERS_MAX} servers`);
  return { enrolment, statements, servers, credentials: reader.text16() };
}

function infoOf(trustDomain: string): Uint8Array {
  return new OctetWriter().text8(DOMAIN).text8(trustDomain).end();
}

function signedBytes(tokenId: string, body: Uint8Array): Uint8Array {
  return new OctetWriter().text8(`${DOMAIN} request`).raw(Buffer.from(tokenId, "hex")).raw(body).end();
}
