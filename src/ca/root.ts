// Makes a trust domain: its root and the first node's intermediate. Signs intermediates for every node, this one or another.
import { existsSync } from "node:fs";
import type { Clock } from "../clock.ts";
import { parseNodeName } from "../enrolment.ts";
import { RiprapError } from "../error.ts";
import { TrustDomain } from "../spiffe_id.ts";
import { openStore, storePath } from "../store.ts";
import { type Certificate, parseCertificate, sameBytes } from "./certificate.ts";
import { DerReader, TAG } from "./der.ts";
import { Journal } from "./journal.ts";
import { keyIdentifier } from "./key.ts";
import { type CaKey, type CustodySetting, type KeyStore, openKeyStore } from "./key_store.ts";
import type { AuthorityRecord } from "./life_cycle.ts";
import { constraintFault } from "./name_constraint.ts";
import { ensureCaDirectory, KEY_NAME, requireNoCa, writeCertificates, writeRecord } from "./state.ts";
import { SerialSource } from "./svid.ts";
import { buildCaCertificate, type CaCertificateRequest } from "./x509.ts";

/** Certificates begin this much before they are signed, for peers whose clock lags; never before their issuer does. */
export const BACKDATE_MS = 60_000;
const DAY_MS = 24 * 3600 * 1000;
const ROOT_LIFETIME_MS = 3650 * DAY_MS;
/** The first node's intermediate, and the default of an enrolment: an offline node works until it ends. */
export const NODE_LIFETIME_MS = 365 * DAY_MS;
const ROOT_NAME = "root";

export interface InitOptions {
  readonly stateDir: string;
  readonly trustDomain: string;
  readonly nodeName: string;
  readonly clock: Clock;
  /** Of the node's keys; a file when not given. */
  readonly custody?: CustodySetting;
}

/** What signs intermediates: the key of a root, or of a CA below one. */
export interface Root {
  readonly key: CaKey;
  readonly certificate: Pick<
    Certificate,
    "bytes" | "notBefore" | "notAfter" | "commonName" | "subject" | "subjectKeyId"
  >;
  /** DER: that CA's certificate and what lies between it and the root; none for the root itself. */
  readonly above: readonly Uint8Array[];
}

export async function createTrustDomain(options: InitOptions): Promise<void> {
  const trustDomain = parseConstrainable(options.trustDomain);
  const nodeName = parseNodeName(options.nodeName);
  const files = ensureCaDirectory(options.stateDir);
  requireNoCa(files);
  if (existsSync(files.pendingRecord)) {
    const remedy = `an enrolment is under way; remove ${files.pendingRecord} and ${files.pendingKey} to give it up`;
    throw new RiprapError("enrolment_pending", `Cannot make a trust domain in ${files.directory}: ${remedy}`);
  }
  const store = openStore(storePath(options.stateDir));
  try {
    const journal = new Journal(store);
    const now = options.clock.now();
    const keys = openKeyStore(options.stateDir, { custody: options.custody ?? "file" });
    const root = await createRoot({ keys, keyName: KEY_NAME.root, commonName: ROOT_NAME, journal, trustDomain, now });
    const key = keys.createKey(KEY_NAME.node);
    const request = {
      trustDomain,
      nodeName,
      point: key.publicKey,
      lifetimeMs: NODE_LIFETIME_MS,
      now,
      context: { by: "init" },
    };
    const certificate = await buildCaCertificate(journalIntermediate(root, journal, request));
    writeCertificates(files.bundle, [root.certificate.bytes]);
    writeCertificates(files.nodeChain, [certificate]);
    writeRecord(files.record, { trustDomain, nodeName, idPrefixes: [`${trustDomain.id}/`] });
  } finally {
    store.close();
  }
}

export interface IntermediateRequest {
  readonly trustDomain: TrustDomain;
  readonly nodeName: string;
  readonly point: Uint8Array;
  readonly lifetimeMs: number;
  readonly now: number;
  readonly context: Record<string, unknown>;
}

/**
 * What buildCaCertificate then signs as a node's CA: path length 0, the trust domain's host its only URI host; it never outlives the root.
 * The journal has it when this returns.
 */
export function journalIntermediate(root: Root, journal: Journal, request: IntermediateRequest): CaCertificateRequest {
  const { trustDomain, nodeName, point, now } = request;
  if (now > root.certificate.notAfter) {
    throw new RiprapError(
      "root_expired",
      "Cannot sign an intermediate: the root of the trust domain has expired; make a new trust domain",
    );
  }
  const serial = new SerialSource().next(now);
  const notBefore = Math.max(wholeSecond(now - BACKDATE_MS), root.certificate.notBefore);
  const notAfter = Math.min(wholeSecond(now + request.lifetimeMs), root.certificate.notAfter);
  const context = JSON.stringify(request.context);
  const keyId = keyIdentifier(point);
  journal.addAuthority({
    serial,
    kind: "intermediate",
    node: nodeName,
    keyId,
    notBefore,
    notAfter,
    signedAt: now,
    context,
  });
  return {
    trustDomain,
    commonName: nodeName,
    serial: Buffer.from(serial).toString("hex"),
    point,
    notBefore,
    notAfter,
    pathLength: 0,
    constrain: true,
    issuer: { ...issuerNameOf(root.certificate), key: root.key },
  };
}

function issuerNameOf({ commonName, subject, subjectKeyId }: Root["certificate"]) {
  return {
    commonName: commonName ?? ROOT_NAME,
    subject,
    ...(subjectKeyId === undefined ? {} : { keyId: subjectKeyId }),
  };
}

/** The key under an authority, when it is on this node. Throws `root_not_here`, or `ca_state_invalid` when key and certificate do not belong together. */
export function openSigner({ keyName, material, chain }: AuthorityRecord, keys: KeyStore): Root {
  if (keyName === "" || !keys.has(keyName)) {
    throw new RiprapError(
      "root_not_here",
      "Cannot sign for a node: the root key is not on this node; do it where `riprap init` was run",
    );
  }
  const above = certificatesOf(chain);
  const certificate = above[0] ?? parseCertificate(material);
  const key = keys.openKey(keyName);
  if (certificate.publicKey !== undefined && sameBytes(certificate.publicKey, key.publicKey))
    return { key, certificate, above: above.map(({ bytes }) => bytes) };
  key.close();
  const remedy = "no root in the bundle has this key; restore one of them from a copy";
  throw new RiprapError("ca_state_invalid", `Cannot use ca/${keyName}.key: ${remedy}`);
}

/** Certificates that stand one after another in DER. */
export function certificatesOf(chain: Uint8Array): readonly Certificate[] {
  const found: Certificate[] = [];
  for (const reader = new DerReader(chain); !reader.done; )
    found.push(parseCertificate(reader.next(TAG.sequence).bytes));
  return found;
}

export interface RootPlan {
  readonly keys: KeyStore;
  readonly keyName: string;
  readonly commonName: string;
  readonly journal: Journal;
  readonly trustDomain: TrustDomain;
  readonly now: number;
}

/** A key and its own certificate, of ten years; the journal has it. */
export async function createRoot(plan: RootPlan): Promise<Root> {
  const { keys, keyName, commonName, journal, trustDomain, now } = plan;
  const key = keys.createKey(keyName);
  const serial = new SerialSource().next(now);
  const notBefore = wholeSecond(now - BACKDATE_MS);
  const notAfter = wholeSecond(now + ROOT_LIFETIME_MS);
  journal.addAuthority({
    serial,
    kind: "root",
    node: "",
    keyId: keyIdentifier(key.publicKey),
    notBefore,
    notAfter,
    signedAt: now,
    context: "{}",
  });
  const bytes = await buildCaCertificate({
    trustDomain,
    commonName,
    serial: Buffer.from(serial).toString("hex"),
    point: key.publicKey,
    notBefore,
    notAfter,
    constrain: false,
    issuer: { commonName, key },
  });
  return { key, certificate: parseCertificate(bytes), above: [] };
}

function parseConstrainable(text: string): TrustDomain {
  const trustDomain = TrustDomain.parse(text);
  const fault = constraintFault(trustDomain.name);
  if (fault === undefined) return trustDomain;
  const remedy = `${fault}, and then it cannot limit what an intermediate may issue (RFC 5280 section 4.2.1.10); give a domain name`;
  throw new RiprapError(
    "trust_domain_unconstrainable",
    `Cannot make the trust domain ${JSON.stringify(text)}: ${remedy}`,
  );
}

function wholeSecond(ms: number): number {
  return Math.floor(ms / 1000) * 1000;
}
