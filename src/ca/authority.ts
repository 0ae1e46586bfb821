// The node's open CA: issues X509-SVIDs, revokes them, and judges peers. Nothing is signed before its journal entry is committed.
import { existsSync } from "node:fs";
import type { Clock } from "../clock.ts";
import { isWithinPrefixes } from "../enrolment.ts";
import { RiprapError } from "../error.ts";
import { SpiffeId } from "../spiffe_id.ts";
import type { Store } from "../store.ts";
import type { BundleOf } from "../trust_bundle.ts";
import { type Certificate, sameBytes } from "./certificate.ts";
import { issuersFault, type PeerAnswer, rootFault, verifyChain } from "./chain.ts";
import { anchorsOf } from "./foreign.ts";
import { Journal, type SvidEntry } from "./journal.ts";
import { fingerprint, keyIdentifier, keyOfPoint } from "./key.ts";
import { openKeyStore } from "./key_store.ts";
import { BACKDATE_MS } from "./root.ts";
import { type CaFiles, KEY_NAME, type NodeRecord, readCertificates, readRecord, requireCa } from "./state.ts";
import { parseDnsNames, SerialSource, SVID_LIFETIME_MAX_MS, type SvidContent, SvidTemplate } from "./svid.ts";

/** Argv and labels of one process, JSON-escaped, fit. */
export const CONTEXT_MAX = 64 * 1024;
export const REASON_MAX = 256;
/** When status begins to warn that the intermediate ends. */
const RENEWAL_WARNING_MS = 30 * 24 * 3600 * 1000;
const SERIAL_TEXT = /^(?:[0-9a-f]{2}){1,20}$/;

export interface SvidRequest {
  readonly spiffeId: SpiffeId | string;
  /** Uncompressed P-256 point, 65 bytes. */
  readonly publicKey: Uint8Array;
  /** Whole seconds from now, 1 to 86400; the SVID ends with the intermediate if that is sooner. */
  readonly lifetimeSeconds: number;
  readonly dnsNames?: readonly string[];
  /** Goes to the journal as JSON: for which instance, process and labels. */
  readonly context: Record<string, unknown>;
}

export interface IssuedSvid {
  /** Lower-case hexadecimal. */
  readonly serial: string;
  /** DER: the SVID, then the intermediate(s), without the root. */
  readonly chain: readonly Uint8Array[];
  readonly notBefore: Date;
  readonly notAfter: Date;
}

export type Revocation = "revoked" | "already_revoked";

export interface AuthorityInfo {
  readonly trustDomain: string;
  readonly nodeName: string;
  readonly idPrefixes: readonly string[];
  readonly issuer: {
    readonly serial: string;
    readonly notBefore: Date;
    readonly notAfter: Date;
    readonly fingerprint: string;
  };
  readonly roots: readonly { readonly fingerprint: string; readonly notAfter: Date }[];
  readonly holdsRootKey: boolean;
  readonly keyStorage: string;
  /** Sentences for `status` and `doctor`. */
  readonly warnings: readonly string[];
  readonly journal: { readonly svids: number; readonly authorities: number; readonly revocations: number };
}

export interface NodeAuthority {
  /** DER of every root of the trust domain. */
  readonly bundle: readonly Uint8Array[];
  readonly trustDomain: string;
  readonly nodeName: string;
  /** Throws RiprapError `svid_refused`, `spiffe_id_invalid`, `public_key_invalid`, `dns_name_invalid`, `lifetime_invalid`, `issuer_expired`, `issuer_revoked`. */
  issueX509Svid(request: SvidRequest): IssuedSvid;
  /** The same for many at once, in one commit: all or none. For bursts; a single SVID pays for a commit of its own, unless it is inside the caller's. */
  issueX509Svids(requests: readonly SvidRequest[]): IssuedSvid[];
  /** The ID, when this node may issue an SVID of any kind for it now. Throws what issueX509Svid throws about the ID and the issuer. */
  requireIssuable(spiffeId: SpiffeId | string): SpiffeId;
  /** Serial in lower-case hexadecimal, of this node or another. Committed when it returns. */
  revoke(serial: string, reason: string): Revocation;
  isRevoked(serial: string): boolean;
  /**
   * Never throws. `chain` is DER, leaf first, as it came over TLS. A leaf of another trust domain is judged by what `bundleOf` gives for that
   * domain alone, and refused where it gives nothing.
   */
  verifyPeerChain(chain: readonly Uint8Array[], bundleOf?: BundleOf): PeerAnswer;
  info(): AuthorityInfo;
  close(): void;
}

export interface OpenOptions {
  readonly stateDir: string;
  readonly clock: Clock;
  readonly store: Store;
}

export function openNodeAuthority({ stateDir, clock, store }: OpenOptions): NodeAuthority {
  const files = requireCa(stateDir);
  const record = readRecord(files.record);
  const roots = readCertificates(files.bundle);
  const issuers = readCertificates(files.nodeChain);
  const key = openKeyStore(stateDir).openKey(KEY_NAME.node);
  const [issuer, ...above] = issuers as [Certificate, ...Certificate[]];
  if (issuer.publicKey === undefined || !sameBytes(issuer.publicKey, key.publicKey)) {
    throw invalidState(files.nodeChain, "its first certificate is not for the key in node.key");
  }
  for (const root of roots) {
    const fault = rootFault(root, record.trustDomain);
    if (fault !== undefined) throw invalidState(files.bundle, fault);
  }
  const fault = issuersFault([issuer, ...above], { trustDomain: record.trustDomain, anchors: roots });
  if (fault !== undefined)
    throw invalidState(files.nodeChain, `its certificates do not lead to a root of ${record.trustDomain}: ${fault}`);
  return new FileAuthority({
    files,
    record,
    roots,
    issuers,
    template: new SvidTemplate(issuer, key),
    clock,
    journal: new Journal(store),
  });
}

interface Parts {
  readonly files: CaFiles;
  readonly record: NodeRecord;
  readonly roots: readonly Certificate[];
  readonly issuers: readonly Certificate[];
  readonly template: SvidTemplate;
  readonly clock: Clock;
  readonly journal: Journal;
}

class FileAuthority implements NodeAuthority {
  readonly bundle: readonly Uint8Array[];
  readonly #parts: Parts;
  readonly #issuer: Certificate;
  readonly #issuerKeyId: Uint8Array;
  readonly #issuerChain: readonly Uint8Array[];
  readonly #serials = new SerialSource();
  #closed = false;

  constructor(parts: Parts) {
    this.#parts = parts;
    this.#issuer = parts.issuers[0] as Certificate;
    this.#issuerKeyId = keyIdentifier(this.#issuer.publicKey as Uint8Array);
    this.#issuerChain = parts.issuers.map((certificate) => certificate.bytes);
    this.bundle = parts.roots.map((root) => root.bytes);
  }

  get trustDomain(): string {
    return this.#parts.record.trustDomain.name;
  }

  get nodeName(): string {
    return this.#parts.record.nodeName;
  }

  issueX509Svid(request: SvidRequest): IssuedSvid {
    return this.issueX509Svids([request])[0] as IssuedSvid;
  }

  issueX509Svids(requests: readonly SvidRequest[]): IssuedSvid[] {
    if (this.#closed) throw new TypeError("the CA is closed");
    const now = this.#parts.clock.now();
    this.#requireValidIssuer(now);
    const drafts = requests.map((request) => this.#draft(request, now));
    // Journal first: a certificate that exists without an entry could never be found and revoked.
    this.#parts.journal.addSvids(drafts.map(({ content, context }) => this.#entry(content, context, now)));
    return drafts.map(({ content }) => this.#sign(content));
  }

  requireIssuable(spiffeId: SpiffeId | string): SpiffeId {
    if (this.#closed) throw new TypeError("the CA is closed");
    this.#requireValidIssuer(this.#parts.clock.now());
    return this.#allowedId(spiffeId);
  }

  #draft(request: SvidRequest, now: number): { content: SvidContent; context: string } {
    const spiffeId = this.#allowedId(request.spiffeId);
    const dnsNames = parseDnsNames(request.dnsNames ?? []);
    const point = Uint8Array.from(request.publicKey);
    if (keyOfPoint(point) === undefined) {
      throw new RiprapError(
        "public_key_invalid",
        `Cannot issue an SVID for ${spiffeId}: its public key is no uncompressed P-256 point`,
      );
    }
    const validity = this.#validity(request.lifetimeSeconds, now);
    const content = { serial: this.#serials.next(now), spiffeId, dnsNames, point, ...validity };
    return { content, context: journalContext(request.context) };
  }

  #entry({ serial, spiffeId, notBefore, notAfter }: SvidContent, context: string, now: number): SvidEntry {
    return {
      serial,
      spiffeId: spiffeId.toString(),
      issuer: this.#issuerKeyId,
      notBefore,
      notAfter,
      signedAt: now,
      context,
    };
  }

  #sign(content: SvidContent): IssuedSvid {
    return {
      serial: Buffer.from(content.serial).toString("hex"),
      chain: [this.#parts.template.sign(content), ...this.#issuerChain],
      notBefore: new Date(content.notBefore),
      notAfter: new Date(content.notAfter),
    };
  }

  revoke(serial: string, reason: string): Revocation {
    const bytes = serialBytes(serial);
    const now = this.#parts.clock.now();
    // Of a certificate that another node signed only this is known: it ends with its issuer, and that with the root.
    const lastRoot = Math.max(...this.#parts.roots.map((root) => root.notAfter));
    const keepUntil = this.#parts.journal.notAfterOf(bytes) ?? lastRoot;
    const entry = { serial: bytes, reason: reason.slice(0, REASON_MAX), revokedAt: now, keepUntil };
    return this.#parts.journal.addRevocation(entry) ? "revoked" : "already_revoked";
  }

  isRevoked(serial: string): boolean {
    return this.#parts.journal.isRevoked(serialBytes(serial));
  }

  verifyPeerChain(chain: readonly Uint8Array[], bundleOf?: BundleOf): PeerAnswer {
    const { record, roots, clock } = this.#parts;
    return verifyChain(chain, {
      trustDomain: record.trustDomain,
      anchors: roots,
      now: clock.now(),
      isRevoked: (serial) => this.isRevoked(serial),
      foreignAnchors(trustDomain) {
        const bundle = bundleOf?.(trustDomain);
        return bundle === undefined ? undefined : anchorsOf(bundle);
      },
    });
  }

  info(): AuthorityInfo {
    const { record, roots, files } = this.#parts;
    const { serial, notBefore, notAfter, bytes } = this.#issuer;
    return {
      trustDomain: record.trustDomain.name,
      nodeName: record.nodeName,
      idPrefixes: record.idPrefixes,
      issuer: { serial, notBefore: new Date(notBefore), notAfter: new Date(notAfter), fingerprint: fingerprint(bytes) },
      roots: roots.map((root) => ({ fingerprint: fingerprint(root.bytes), notAfter: new Date(root.notAfter) })),
      holdsRootKey: existsSync(files.rootKey),
      keyStorage: "file (0600)",
      warnings: this.#warnings(),
      journal: this.#parts.journal.counts(),
    };
  }

  close(): void {
    this.#closed = true;
  }

  #allowedId(wanted: SpiffeId | string): SpiffeId {
    const id = typeof wanted === "string" ? SpiffeId.parse(wanted) : wanted;
    const { trustDomain, idPrefixes } = this.#parts.record;
    if (!id.isMemberOf(trustDomain)) throw refused(id, `it is not of this node's trust domain ${trustDomain}`);
    if (id.path === "") throw refused(id, "it has no path, and such an ID is for CAs alone");
    if (isWithinPrefixes(id.toString(), idPrefixes)) return id;
    throw refused(
      id,
      `this node may only issue ${idPrefixes.join(", ")}; enrol it again with a prefix that covers the ID`,
    );
  }

  #requireValidIssuer(now: number): void {
    const issuer = this.#issuer;
    if (now >= issuer.notAfter || now < issuer.notBefore) {
      const span = `${new Date(issuer.notBefore).toISOString()} to ${new Date(issuer.notAfter).toISOString()}`;
      const fact = `this node's intermediate is valid from ${span}, and it is ${new Date(now).toISOString()}`;
      throw new RiprapError("issuer_expired", `Cannot issue an SVID: ${fact}; set the clock, or enrol the node again`);
    }
    if (this.isRevoked(issuer.serial)) {
      throw new RiprapError(
        "issuer_revoked",
        "Cannot issue an SVID: this node's intermediate is revoked; enrol the node again",
      );
    }
  }

  #validity(lifetimeSeconds: number, now: number): { notBefore: number; notAfter: number } {
    const lifetime = lifetimeSeconds * 1000;
    if (!Number.isInteger(lifetimeSeconds) || lifetime < 1000 || lifetime > SVID_LIFETIME_MAX_MS) {
      const fact = `its lifetime is ${lifetimeSeconds} s; give whole seconds from 1 to ${SVID_LIFETIME_MAX_MS / 1000}`;
      throw new RiprapError("lifetime_invalid", `Cannot issue an SVID: ${fact}`);
    }
    const second = Math.floor(now / 1000) * 1000;
    return {
      notBefore: Math.max(second - BACKDATE_MS, this.#issuer.notBefore),
      notAfter: Math.min(second + lifetime, this.#issuer.notAfter),
    };
  }

  #warnings(): string[] {
    const { clock, files } = this.#parts;
    const left = this.#issuer.notAfter - clock.now();
    const ends = new Date(this.#issuer.notAfter).toISOString();
    const warnings = [
      "The node's CA key lies in a file that root can read and copy; neither the kernel nor a TPM guards it.",
    ];
    if (existsSync(files.rootKey))
      warnings.push(
        "The root key of the trust domain lies on this node; move ca/root.key to a safe place when no node is to be enrolled.",
      );
    if (left <= 0)
      warnings.push(`This node's intermediate ended at ${ends}: it issues nothing until it is enrolled again.`);
    else if (left < RENEWAL_WARNING_MS)
      warnings.push(`This node's intermediate ends at ${ends}; enrol the node again before that.`);
    return warnings;
  }
}

function journalContext(context: Record<string, unknown>): string {
  const text = JSON.stringify(context);
  if (text.length > CONTEXT_MAX)
    throw new RangeError(`the journal takes ${CONTEXT_MAX} characters of context, and this is ${text.length}`);
  return text;
}

function serialBytes(serial: string): Uint8Array {
  if (SERIAL_TEXT.test(serial)) return Buffer.from(serial, "hex");
  throw new RiprapError(
    "serial_invalid",
    `Cannot use the serial number ${JSON.stringify(serial.slice(0, 60))}: give it in lower-case hexadecimal`,
  );
}

function refused(id: SpiffeId, fact: string): RiprapError {
  return new RiprapError("svid_refused", `Cannot issue an SVID for ${id}: ${fact}`);
}

function invalidState(path: string, fact: string): RiprapError {
  return new RiprapError(
    "ca_state_invalid",
    `Cannot use ${path}: ${fact}; restore it from a copy, or set the CA up again`,
  );
}
