// The node's open CA: issues X509-SVIDs, revokes them, and judges peers. Nothing is signed before its journal entry is committed.
import type { Clock } from "../clock.ts";
import { isWithinPrefixes } from "../enrolment.ts";
import { RiprapError } from "../error.ts";
import { SpiffeId } from "../spiffe_id.ts";
import type { BundleOf } from "../trust_bundle.ts";
import { type PeerAnswer, refusePeer, verifyChain } from "./chain.ts";
import { writeCrl } from "./crl.ts";
import { CrlTable } from "./crl_table.ts";
import { anchorsOf } from "./foreign.ts";
import { Journal, type SvidEntry } from "./journal.ts";
import { CurvePoint, fingerprint, keyIdentifier } from "./key.ts";
import { type CaKey, custodyWarnings, describeCustody } from "./key_store.ts";
import { nameConstraintFault } from "./name_constraint.ts";
import type {
  AuthorityInfo,
  IssuedSvid,
  NodeAuthority,
  OpenOptions,
  Revocation,
  SvidRequest,
} from "./node_authority.ts";
import { type CaGround, isHeld, loadNodeState, type NodeState, openGround, openNodeKey } from "./node_state.ts";
import { type RevokedId, RevokedIds } from "./revoked_id.ts";
import { BACKDATE_MS } from "./root.ts";
import { parseDnsNames, SerialSource, SVID_LIFETIME_MAX_MS, type SvidContent, SvidTemplate } from "./svid.ts";

/** Argv and labels of one process, JSON-escaped, fit. */
export const CONTEXT_MAX = 64 * 1024;
export const REASON_MAX = 256;
/** When status begins to warn that the intermediate ends. */
const RENEWAL_WARNING_MS = 30 * 24 * 3600 * 1000;
/** The same of the root: nothing under it is renewed past its end, and other nodes move to another in their own time. */
const ROOT_WARNING_MS = 180 * 24 * 3600 * 1000;
const SERIAL_TEXT = /^(?:[0-9a-f]{2}){1,20}$/;

export function openNodeAuthority(options: OpenOptions): NodeAuthority {
  const { clock, store } = options;
  return new FileAuthority({
    ground: openGround(options),
    clock,
    journal: new Journal(store),
    crls: new CrlTable(store),
    revokedIds: new RevokedIds(store),
  });
}

interface Parts {
  readonly ground: CaGround;
  readonly clock: Clock;
  readonly journal: Journal;
  readonly crls: CrlTable;
  readonly revokedIds: RevokedIds;
}

/** What is the same until the next change of the authorities. */
interface Signing extends NodeState {
  readonly key: CaKey;
  readonly template: SvidTemplate;
  readonly issuerKeyId: Uint8Array;
  readonly issuerChain: readonly Uint8Array[];
  readonly bundle: readonly Uint8Array[];
}

class FileAuthority implements NodeAuthority {
  readonly #parts: Parts;
  readonly #serials = new SerialSource();
  #signing: Signing;
  #closed = false;

  constructor(parts: Parts) {
    this.#parts = parts;
    this.#signing = load(parts);
  }

  get bundle(): readonly Uint8Array[] {
    return this.#current().bundle;
  }

  get epoch(): number {
    return this.#parts.ground.table.epoch;
  }

  get notAfter(): number {
    return this.#current().issuers[0].notAfter;
  }

  get trustDomain(): string {
    return this.#signing.record.trustDomain.name;
  }

  get nodeName(): string {
    return this.#signing.record.nodeName;
  }

  issueX509Svid(request: SvidRequest): IssuedSvid {
    return this.issueX509Svids([request])[0] as IssuedSvid;
  }

  issueX509Svids(requests: readonly SvidRequest[]): IssuedSvid[] {
    if (this.#closed) throw new TypeError("the CA is closed");
    const { clock, journal } = this.#parts;
    const now = clock.now();
    const signing = this.#current();
    // Journal first: a certificate that exists without an entry could never be found and revoked. Questions and entries are one transaction, for the
    // file is locked once then.
    const contents = journal.transaction(() => {
      this.#requireValidIssuer(signing, now);
      const allowed = this.#judge();
      const drafts = requests.map((request) => this.#draft(request, allowed, now));
      journal.addSvids(drafts.map(({ content, context }) => entryOf(content, { signing, context, now })));
      return drafts.map(({ content }) => content);
    });
    return contents.map((content) => signed(content, signing));
  }

  requireIssuable(spiffeId: SpiffeId | string): SpiffeId {
    return this.issuable()(spiffeId);
  }

  issuable(): (spiffeId: SpiffeId | string) => SpiffeId {
    if (this.#closed) throw new TypeError("the CA is closed");
    this.#requireValidIssuer(this.#current(), this.#parts.clock.now());
    return this.#judge();
  }

  /** What this node may issue, for use within one turn. */
  #judge(): (spiffeId: SpiffeId | string) => SpiffeId {
    const { isEmpty } = this.#parts.revokedIds;
    return (spiffeId) => {
      const id = this.#allowedId(spiffeId);
      return isEmpty ? id : this.#unrevoked(id);
    };
  }

  #draft(
    request: SvidRequest,
    allowed: (spiffeId: SpiffeId | string) => SpiffeId,
    now: number,
  ): { content: SvidContent; context: string } {
    const spiffeId = allowed(request.spiffeId);
    const dnsNames = this.#allowedNames(parseDnsNames(request.dnsNames ?? []));
    const point = pointOf(request);
    const { notBefore, notAfter } = this.#validity(request.lifetimeSeconds, now);
    const content = { serial: this.#serials.next(now), spiffeId, dnsNames, point, notBefore, notAfter };
    return { content, context: journalContext(request.context) };
  }

  revoke(serial: string, reason: string): Revocation {
    const bytes = serialBytes(serial);
    const now = this.#parts.clock.now();
    // Of a certificate that another node signed only this is known: it ends with its issuer, and that with the root.
    const lastRoot = Math.max(...this.#current().roots.map((root) => root.notAfter));
    const keepUntil = this.#parts.journal.notAfterOf(bytes) ?? lastRoot;
    const entry = { serial: bytes, reason: reason.slice(0, REASON_MAX), revokedAt: now, keepUntil };
    return this.#parts.journal.addRevocation(entry) ? "revoked" : "already_revoked";
  }

  isRevoked(serial: string): boolean {
    return this.#parts.journal.isRevoked(serialBytes(serial));
  }

  revokeId(spiffeId: SpiffeId, reason: string): Revocation {
    const { clock, journal, revokedIds } = this.#parts;
    const now = clock.now();
    const short = reason.slice(0, REASON_MAX);
    return journal.transaction(() => {
      const isNew = revokedIds.add({ spiffeId: spiffeId.toString(), reason: short, revokedAt: now });
      for (const { serial, notAfter } of journal.liveSvids(spiffeId.toString(), now))
        journal.addRevocation({ serial, reason: short, revokedAt: now, keepUntil: notAfter });
      return isNew ? "revoked" : "already_revoked";
    });
  }

  liftId(spiffeId: SpiffeId): boolean {
    return this.#parts.revokedIds.remove(spiffeId.toString());
  }

  revokedIds(): readonly RevokedId[] {
    return this.#parts.revokedIds.list();
  }

  revokeKey(keyId: string, reason: string): Revocation | undefined {
    const serials = this.#parts.journal.serialsOfKey(Buffer.from(keyId, "hex"));
    const outcomes = serials.map((serial) => this.revoke(Buffer.from(serial).toString("hex"), reason));
    return outcomes.length === 0 ? undefined : outcomes.includes("revoked") ? "revoked" : "already_revoked";
  }

  revokedIdReason(spiffeId: SpiffeId): string | undefined {
    return this.#parts.revokedIds.reasonOf(spiffeId.toString());
  }

  crl(): Uint8Array {
    if (this.#closed) throw new TypeError("the CA is closed");
    const { issuers, issuerKeyId, key } = this.#current();
    const { clock, crls, journal } = this.#parts;
    const now = clock.now();
    return crls.current(issuerKeyId, {
      now,
      list: () => journal.revokedUnder(issuerKeyId, now),
      sign: (content) => writeCrl(content, issuers[0], key),
    });
  }

  verifyPeerChain(chain: readonly Uint8Array[], bundleOf?: BundleOf): PeerAnswer {
    const { record, roots } = this.#current();
    const { clock } = this.#parts;
    const answer = verifyChain(chain, {
      trustDomain: record.trustDomain,
      anchors: roots,
      now: clock.now(),
      isRevoked: (serial) => this.isRevoked(serial),
      foreignAnchors(trustDomain) {
        const bundle = bundleOf?.(trustDomain);
        return bundle === undefined ? undefined : anchorsOf(bundle);
      },
    });
    const reason = answer.ok ? this.revokedIdReason(answer.spiffeId) : undefined;
    return reason === undefined ? answer : refusePeer("revoked", `its ID is revoked: ${reason}`);
  }

  info(): AuthorityInfo {
    const { record, roots, issuers, anchor } = this.#current();
    const { serial, notBefore, notAfter, bytes } = issuers[0];
    return {
      trustDomain: record.trustDomain.name,
      nodeName: record.nodeName,
      idPrefixes: record.idPrefixes,
      issuer: {
        ...{ serial, notBefore: new Date(notBefore), notAfter: new Date(notAfter) },
        ...{ fingerprint: fingerprint(bytes), root: anchor.id },
      },
      roots: roots.map((root) => ({ fingerprint: fingerprint(root.bytes), notAfter: new Date(root.notAfter) })),
      holdsRootKey: this.#holdsRootKey(),
      keyStorage: describeCustody(this.#signing.key, this.#parts.ground.keys),
      warnings: this.#warnings(),
      journal: this.#parts.journal.counts(),
    };
  }

  close(): void {
    this.#closed = true;
    this.#signing.key.close();
  }

  /** Read anew when the authorities have changed, by this process or another. */
  #current(): Signing {
    const { table } = this.#parts.ground;
    if (this.#closed || table.generation === this.#signing.generation) return this.#signing;
    const before = this.#signing;
    this.#signing = load(this.#parts);
    before.key.close();
    return this.#signing;
  }

  #holdsRootKey(): boolean {
    const { keys, table } = this.#parts.ground;
    return table.list("x509").some((root) => root.phase !== "revoked" && isHeld(root, keys));
  }

  #allowedId(wanted: SpiffeId | string): SpiffeId {
    const id = typeof wanted === "string" ? SpiffeId.parse(wanted) : wanted;
    const { trustDomain, idPrefixes } = this.#signing.record;
    if (!id.isMemberOf(trustDomain)) throw refused(id, `it is not of this node's trust domain ${trustDomain}`);
    if (id.path === "") throw refused(id, "it has no path, and such an ID is for CAs alone");
    if (isWithinPrefixes(id.toString(), idPrefixes)) return id;
    throw refused(
      id,
      `this node may only issue ${idPrefixes.join(", ")}; enrol it again with a prefix that covers the ID`,
    );
  }

  /** A name that a CA above does not permit would make an SVID that nobody takes. */
  #allowedNames(dnsNames: readonly string[]): readonly string[] {
    for (const { nameConstraints } of dnsNames.length === 0 ? [] : this.#signing.issuers) {
      const fact = nameConstraints && nameConstraintFault(nameConstraints, { uris: [], dnsNames });
      if (fact !== undefined) throw new RiprapError("dns_name_invalid", `Cannot issue an SVID: ${fact}`);
    }
    return dnsNames;
  }

  #unrevoked(id: SpiffeId): SpiffeId {
    const reason = this.revokedIdReason(id);
    if (reason === undefined) return id;
    const remedy = `where it was revoked on this node alone, \`riprap revoke --lift ${id}\` ends that`;
    throw new RiprapError("id_revoked", `Cannot issue an SVID for ${id}: the ID is revoked (${reason}); ${remedy}`);
  }

  #requireValidIssuer({ anchor, issuers }: Signing, now: number): void {
    const [issuer] = issuers;
    if (now >= issuer.notAfter || now < issuer.notBefore) {
      const span = `${new Date(issuer.notBefore).toISOString()} to ${new Date(issuer.notAfter).toISOString()}`;
      const fact = `this node's intermediate is valid from ${span}, and it is ${new Date(now).toISOString()}`;
      throw new RiprapError("issuer_expired", `Cannot issue an SVID: ${fact}; set the clock, or enrol the node again`);
    }
    const fact =
      anchor.phase === "revoked"
        ? "the root above this node's intermediate is trusted no longer"
        : issuers.some(({ serial }) => this.isRevoked(serial))
          ? "this node's intermediate is revoked"
          : undefined;
    if (fact !== undefined)
      throw new RiprapError("issuer_revoked", `Cannot issue an SVID: ${fact}; enrol the node again`);
  }

  #validity(lifetimeSeconds: number, now: number): { notBefore: number; notAfter: number } {
    const lifetime = lifetimeSeconds * 1000;
    if (!Number.isInteger(lifetimeSeconds) || lifetime < 1000 || lifetime > SVID_LIFETIME_MAX_MS) {
      const fact = `its lifetime is ${lifetimeSeconds} s; give whole seconds from 1 to ${SVID_LIFETIME_MAX_MS / 1000}`;
      throw new RiprapError("lifetime_invalid", `Cannot issue an SVID: ${fact}`);
    }
    const second = Math.floor(now / 1000) * 1000;
    const { anchor, issuers } = this.#signing;
    return {
      notBefore: Math.max(second - BACKDATE_MS, issuers[0].notBefore),
      notAfter: Math.min(second + lifetime, anchor.notAfter, ...issuers.map(({ notAfter }) => notAfter)),
    };
  }

  #warnings(): string[] {
    const [issuer] = this.#signing.issuers;
    const now = this.#parts.clock.now();
    const left = issuer.notAfter - now;
    const ends = new Date(issuer.notAfter).toISOString();
    const warnings = [...custodyWarnings(this.#parts.ground.keys)];
    if (this.#holdsRootKey())
      warnings.push(
        "The root key of the trust domain lies on this node; move ca/root.key to a safe place when no node is to be enrolled.",
      );
    if (left <= 0)
      warnings.push(`This node's intermediate ended at ${ends}: it issues nothing until it is enrolled again.`);
    else if (left < RENEWAL_WARNING_MS)
      warnings.push(`This node's intermediate ends at ${ends}; enrol the node again before that.`);
    const { id, notAfter } = this.#signing.anchor;
    if (notAfter - now < ROOT_WARNING_MS) {
      const remedy = "prepare another with `riprap authority prepare x509`, or have an upstream CA sign anew";
      warnings.push(`The root ${id.slice(0, 16)} ends at ${new Date(notAfter).toISOString()}; ${remedy}.`);
    }
    return warnings;
  }
}

function load(parts: Parts): Signing {
  const state = loadNodeState(parts.ground, parts.clock.now());
  const { issuers, roots } = state;
  const key = openNodeKey(parts.ground, state);
  return {
    ...state,
    key,
    template: new SvidTemplate(issuers[0], key),
    issuerKeyId: keyIdentifier(key.publicKey),
    issuerChain: issuers.map(({ bytes }) => bytes),
    bundle: roots.map(({ bytes }) => bytes),
  };
}

function entryOf(content: SvidContent, by: { signing: Signing; context: string; now: number }): SvidEntry {
  const { serial, spiffeId, notBefore, notAfter } = content;
  const { signing, context, now } = by;
  const issuer = signing.issuerKeyId;
  return { serial, spiffeId: spiffeId.toString(), issuer, notBefore, notAfter, signedAt: now, context };
}

function signed(content: SvidContent, { template, issuerChain }: Signing): IssuedSvid {
  return {
    serial: content.serial.toString("hex"),
    chain: [template.sign(content), ...issuerChain],
    notBefore: new Date(content.notBefore),
    notAfter: new Date(content.notAfter),
  };
}

function pointOf({ publicKey, spiffeId }: SvidRequest): Uint8Array {
  const point = publicKey instanceof CurvePoint ? publicKey : CurvePoint.tryParse(publicKey);
  if (point !== undefined) return point.bytes;
  throw new RiprapError(
    "public_key_invalid",
    `Cannot issue an SVID for ${spiffeId}: its public key is no uncompressed P-256 point`,
  );
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
