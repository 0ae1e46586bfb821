// The CA's files under the state directory: names, private modes, strict reading. Makes no key and signs nothing.
import { existsSync, readdirSync } from "node:fs";
import { basename, join } from "node:path";
import { parseIdPrefixes, parseNodeName } from "../enrolment.ts";
import { RiprapError } from "../error.ts";
import { toPem } from "../pem.ts";
import { ensurePrivateDirectory, readPrivateFile, requirePrivateDirectory, writePrivateFile } from "../private_file.ts";
import { TrustDomain } from "../spiffe_id.ts";
import { type Certificate, parseCertificate } from "./certificate.ts";

/** Room for eight certificates in PEM, four times over. */
const PEM_FILE_MAX = 128 * 1024;
const JSON_FILE_MAX = 64 * 1024;
/** Roots of one trust domain: the one in force, the next and the last, with room. */
export const ROOTS_MAX = 8;

export interface NodeRecord {
  readonly trustDomain: TrustDomain;
  readonly nodeName: string;
  readonly idPrefixes: readonly string[];
}

/** Paths of everything the CA keeps. `record` is written last: while it is missing, there is no CA. */
export interface CaFiles {
  readonly directory: string;
  readonly record: string;
  readonly nodeKey: string;
  readonly nodeChain: string;
  readonly rootKey: string;
  readonly bundle: string;
  /** Of the JWT authority; made when it is opened for the first time. */
  readonly jwtKey: string;
  readonly pendingKey: string;
  readonly pendingRecord: string;
}

/** Of readPrivateFile, with remedies of their own. */
const SAID_BY_THE_FILE = new Set(["state_not_private", "state_too_large", "state_unusable"]);
/** What is not secret can be had elsewhere. */
const CERTIFICATE_REMEDY: Readonly<Record<string, string>> = {
  "bundle.pem": "copy ca/bundle.pem from another node of the trust domain",
  "node.pem": "give this node up (remove ca/) and enrol it again",
};

/** What may be there before a CA is: a request, the seal of the keys, and the keys with which a node that joins speaks. */
const BEFORE_CA = /^(?:enrolment|seal|fleet|nats)\.|\.tmp$/;

/** Names in the key store of what caFiles gives paths for. */
export const KEY_NAME = { node: "node", root: "root", jwt: "jwt", pending: "enrolment" } as const;

export function caFiles(stateDir: string): CaFiles {
  const directory = join(stateDir, "ca");
  const file = (name: string) => join(directory, name);
  return {
    directory,
    record: file("node.json"),
    nodeKey: file("node.key"),
    nodeChain: file("node.pem"),
    rootKey: file("root.key"),
    bundle: file("bundle.pem"),
    jwtKey: file("jwt.key"),
    pendingKey: file("enrolment.key"),
    pendingRecord: file("enrolment.json"),
  };
}

/** Makes stateDir and stateDir/ca, or checks that they are private. */
export function ensureCaDirectory(stateDir: string): CaFiles {
  ensurePrivateDirectory(stateDir);
  const files = caFiles(stateDir);
  ensurePrivateDirectory(files.directory);
  return files;
}

/** Throws `ca_not_initialised` when there is no CA yet, and whatever a directory or file that is not private throws. */
export function requireCa(stateDir: string): CaFiles {
  const files = caFiles(stateDir);
  const remedy = "run `riprap init DOMAIN` on the first node of a trust domain, or `riprap enrol request` to join one";
  if (!existsSync(stateDir) || !existsSync(files.directory)) throw missing(stateDir, remedy);
  requirePrivateDirectory(stateDir);
  requirePrivateDirectory(files.directory);
  if (existsSync(files.record)) return files;
  if (existsSync(files.pendingRecord))
    throw missing(stateDir, "its enrolment waits for the grant; run `riprap enrol install FILE`");
  throw missing(stateDir, remedy);
}

/** Throws `ca_exists` when this node has a CA or the rest of one. */
export function requireNoCa(files: CaFiles): void {
  if (existsSync(files.record)) {
    throw new RiprapError(
      "ca_exists",
      `Cannot set up a CA in ${files.directory}: there is one already; remove the directory to give it up`,
    );
  }
  const left = readdirSync(files.directory).filter((name) => !BEFORE_CA.test(name));
  if (left.length === 0) return;
  const fact = `it holds ${left[0]} of a set-up that did not finish; remove the directory and try again`;
  throw new RiprapError("ca_exists", `Cannot set up a CA in ${files.directory}: ${fact}`);
}

export function writeRecord(path: string, record: NodeRecord): void {
  const { trustDomain, nodeName, idPrefixes } = record;
  const text = JSON.stringify({ version: 1, trustDomain: trustDomain.name, nodeName, idPrefixes }, null, 2);
  writePrivateFile(path, Buffer.from(`${text}\n`));
}

/** Throws `ca_state_invalid`. */
export function readRecord(path: string): NodeRecord {
  try {
    const bytes = readPrivateFile(path, JSON_FILE_MAX);
    const value: unknown = JSON.parse(Buffer.from(bytes).toString());
    const { version, trustDomain, nodeName, idPrefixes } = value as Record<string, unknown>;
    if (version !== 1) throw new Error("it is not of version 1");
    if (typeof trustDomain !== "string" || typeof nodeName !== "string") throw new Error("a field is missing");
    if (!Array.isArray(idPrefixes) || !idPrefixes.every((prefix) => typeof prefix === "string"))
      throw new Error("a field is missing");
    const domain = TrustDomain.parse(trustDomain);
    return { trustDomain: domain, nodeName: parseNodeName(nodeName), idPrefixes: parseIdPrefixes(idPrefixes, domain) };
  } catch (cause) {
    throw unreadable(path, cause, { otherwise: undefined });
  }
}

export function writeCertificates(path: string, certificates: readonly Uint8Array[]): void {
  writePrivateFile(path, Buffer.from(toPem(certificates)));
}

/** Throws `ca_state_invalid`. */
export function readCertificates(path: string): Certificate[] {
  try {
    const bytes = readPrivateFile(path, PEM_FILE_MAX);
    return parseCertificates(Buffer.from(bytes).toString("latin1"));
  } catch (cause) {
    throw unreadable(path, cause, { otherwise: CERTIFICATE_REMEDY[basename(path)] });
  }
}

/** At least one; throws Error on anything else in the text, and RiprapError `der_malformed`, `certificate_malformed`. */
export function parseCertificates(text: string): Certificate[] {
  return parsePem(text).map(parseCertificate);
}

/** A file of the CA that is not what was written, or is gone; what is private to nobody says so itself. */
function unreadable(path: string, cause: unknown, { otherwise }: { otherwise: string | undefined }): RiprapError {
  const code = cause instanceof RiprapError ? cause.code : "";
  if (SAID_BY_THE_FILE.has(code)) return cause as RiprapError;
  const fact = code === "state_missing" ? "it does not exist" : (cause as Error).message;
  const remedy = `restore it from a copy${otherwise === undefined ? "" : `, or ${otherwise}`}`;
  return new RiprapError("ca_state_invalid", `Cannot use ${path}: ${fact}; ${remedy}`, { cause });
}

/** Certificates of a PEM text, at least one; throws on anything else in it. */
function parsePem(text: string): Uint8Array[] {
  const block = /-----BEGIN CERTIFICATE-----\n([A-Za-z0-9+/=\n]+)-----END CERTIFICATE-----\n?/g;
  if (text.replace(block, "") !== "" || text === "") throw new Error("it is not a list of PEM certificates");
  return [...text.matchAll(block)].map((match) => Uint8Array.from(Buffer.from(match[1] as string, "base64")));
}

function missing(stateDir: string, remedy: string): RiprapError {
  return new RiprapError(
    "ca_not_initialised",
    `Cannot open the CA in ${stateDir}: this node belongs to no trust domain yet; ${remedy}`,
  );
}
