// The roots of a trust domain as its fleet follows them: which may speak, which only end certificate paths, which are gone, and who brought each in. Pure.
import { hash } from "node:crypto";
import { RiprapError } from "../error.ts";
import { parseBody, ROOT_ENTRIES_MAX, ROOT_KEEP_MAX, type RootEntry, writeBody } from "./body.ts";
import { keyHex, rootPoint, type Signer, verifySignature } from "./curve.ts";
import { OctetWriter } from "./octet.ts";
import type { Statement } from "./statement.ts";

/** The name of the statement that says it; no node can be heard under it. */
export const DOMAIN_BUNDLE = "domain";
/** What an earlier root signs about a later one begins with this, so that no other signed thing can be taken for it. */
const DOMAIN = "riprap root succession 1";
const STATES: readonly RootEntry["state"][] = ["trusted", "retired", "revoked"];

export type SuccessionFault = readonly [code: "root_unknown" | "root_retired" | "roots_rolled_back", fact: string];

export function isSuccession({ kind, name }: Pick<Statement, "kind" | "name">): boolean {
  return kind === "bundle" && name === DOMAIN_BUNDLE;
}

/** The certificate of an entry, DER. */
export function certificateOf({ certificate }: RootEntry): Uint8Array {
  return new Uint8Array(Buffer.from(certificate, "base64"));
}

/** SHA-256 of the certificate, hexadecimal: how roots are named everywhere. */
export function fingerprintOf(entry: RootEntry): string {
  return hash("sha256", certificateOf(entry), "hex");
}

/** P-256 point of an entry in hexadecimal; empty for a certificate of no such key. */
export function keyOf(entry: RootEntry): string {
  return keyHex(rootPoint(certificateOf(entry)) ?? new Uint8Array());
}

/** What of the roots stands on a node: by the record that it has, or by the roots that it was enrolled with. */
export class Succession {
  readonly #trustDomain: string;
  readonly #base: ReadonlySet<string>;
  #entries: readonly RootEntry[] | undefined;
  /** Key to what still stands of its words; undefined: all of them. */
  #keep: ReadonlyMap<string, ReadonlySet<string> | undefined>;

  /** `roots`: P-256 points that the node was enrolled with. */
  constructor(trustDomain: string, roots: readonly Uint8Array[]) {
    this.#trustDomain = trustDomain;
    this.#base = new Set(roots.map(keyHex));
    this.#keep = trustAll(this.#base);
  }

  /** In the order in which they came; undefined while nobody has spoken of them. */
  get entries(): readonly RootEntry[] | undefined {
    return this.#entries;
  }

  /** Every key that may speak, or whose former words stand. */
  keys(): readonly string[] {
    return [...this.#keep.keys()];
  }

  /** Whether the key may speak of the roots now. */
  isTrusted(key: string): boolean {
    return this.#keep.has(key) && this.#keep.get(key) === undefined;
  }

  /** Whether a root said this while it could: of one that retired or was revoked, the words that its successor named. */
  stands(key: Uint8Array, statementHash: string): boolean {
    const text = keyHex(key);
    const keep = this.#keep.get(text);
    return this.#keep.has(text) && (keep === undefined || keep.has(statementHash.slice(0, 32)));
  }

  /** Why a record may not take the place of what stands; undefined when it may. Its signature is not looked at. */
  fault(statement: Statement): SuccessionFault | undefined {
    const { roots } = parseBody("roots", statement);
    const author = keyHex(statement.author);
    const lost = (this.#entries ?? []).find((held) => !isKept(held, roots));
    if (lost !== undefined)
      return ["roots_rolled_back", `it goes back on the root ${fingerprintOf(lost)}, which is ${lost.state} here`];
    if (!this.#reach(roots).has(author))
      return ["root_unknown", "no root that this node knows has brought in its author"];
    return roots.some((entry) => keyOf(entry) === author && entry.state === "trusted")
      ? undefined
      : ["root_retired", "its author is a root that may speak no more"];
  }

  /** From now on; undefined: as the node was enrolled. Answers the keys whose words must be judged again. */
  follow(statement: Statement | undefined): string[] {
    const before = this.keys();
    this.#entries = statement === undefined ? undefined : parseBody("roots", statement).roots;
    this.#keep = this.#entries === undefined ? trustAll(this.#base) : keepOf(this.#entries);
    return [...new Set([...before, ...this.keys()])];
  }

  /** The keys that a node comes to from the roots that it trusts now, each brought in by one before it. */
  #reach(roots: readonly RootEntry[]): ReadonlySet<string> {
    const reached = new Set([...this.#keep.keys()].filter((key) => this.isTrusted(key)));
    for (const entry of roots) {
      const by = roots.find((other) => fingerprintOf(other) === entry.by);
      const [key, sponsor] = [keyOf(entry), by === undefined ? "" : keyOf(by)];
      if (key === "" || !reached.has(sponsor)) continue;
      const signed = endorsementBytes(this.#trustDomain, Buffer.from(key, "hex"));
      if (verifySignature(signed, Buffer.from(entry.endorsement, "hex"), Buffer.from(sponsor, "hex"))) reached.add(key);
    }
    return reached;
  }
}

function trustAll(keys: Iterable<string>): ReadonlyMap<string, undefined> {
  return new Map([...keys].map((key) => [key, undefined]));
}

/** Of two certificates of one key the end of either ends its words. */
function keepOf(entries: readonly RootEntry[]): ReadonlyMap<string, ReadonlySet<string> | undefined> {
  const keep = new Map<string, ReadonlySet<string> | undefined>();
  for (const entry of entries) {
    const key = keyOf(entry);
    if (entry.state !== "trusted") keep.set(key, new Set(entry.keep));
    else if (!keep.has(key)) keep.set(key, undefined);
  }
  return keep;
}

export interface KnownRoot {
  /** DER. */
  readonly certificate: Uint8Array;
  readonly state: RootEntry["state"];
  /** Hashes of what stands of its words; of a trusted one none are needed. */
  readonly keep: readonly string[];
}

/**
 * The record of these roots, for `author` to sign: what stands already goes before, and no entry goes back. Undefined when it says nothing new.
 * Roots that nobody has brought in yet are brought in by the author. Throws RiprapError `roots_too_much` beyond what a record holds.
 */
export function nextRecord(
  held: readonly RootEntry[] | undefined,
  roots: readonly KnownRoot[],
  by: Endorser,
): Uint8Array | undefined {
  const next = nextEntries(held, roots);
  return next === undefined ? undefined : writeBody("roots", { roots: endorse(next, by) });
}

/** The same before anybody has signed: new entries name nobody who brought them in. Throws RiprapError `roots_too_much`. */
export function nextEntries(
  held: readonly RootEntry[] | undefined,
  roots: readonly KnownRoot[],
): readonly RootEntry[] | undefined {
  const named = (certificate: Uint8Array) => Buffer.from(certificate).toString("base64");
  const known = new Set(held?.map(({ certificate }) => certificate));
  const kept = (held ?? []).map((entry): RootEntry => {
    const now = roots.find(({ certificate }) => named(certificate) === entry.certificate);
    if (now === undefined || STATES.indexOf(now.state) <= STATES.indexOf(entry.state)) return entry;
    // What a retired root had said by then stands when it is revoked too, and nothing that it said later.
    return { ...entry, state: now.state, keep: entry.state === "trusted" ? now.keep : entry.keep };
  });
  const fresh = roots
    .filter(({ certificate }) => !known.has(named(certificate)))
    .map(({ certificate, state, keep }): RootEntry => {
      return { certificate: named(certificate), state, keep: state === "trusted" ? [] : keep, by: "", endorsement: "" };
    });
  if (fresh.length === 0 && kept.every((entry, i) => entry === held?.[i])) return undefined;
  requireFits([...kept, ...fresh]);
  return [...kept, ...fresh];
}

function requireFits(entries: readonly RootEntry[]): void {
  const words = entries.reduce((sum, { keep }) => sum + keep.length, 0);
  const fault =
    entries.length > ROOT_ENTRIES_MAX
      ? `it has had ${entries.length}, and the record of them holds ${ROOT_ENTRIES_MAX}; found another trust domain`
      : words > ROOT_KEEP_MAX
        ? `${words} statements of roots that speak no more are to stand, and the record of them names ${ROOT_KEEP_MAX}; have a root that goes on speaking say them again (riprap root request, riprap root sign --key)`
        : undefined;
  if (fault === undefined) return;
  throw new RiprapError("roots_too_much", `Cannot tell the fleet of the roots of the trust domain: ${fault}`);
}

export interface Endorser {
  readonly trustDomain: string;
  readonly author: Signer;
}

/** The author brings in whom nobody has. It speaks, so that it has not retired, whatever was asked for. */
export function endorse(entries: readonly RootEntry[], { trustDomain, author }: Endorser): readonly RootEntry[] {
  const authorKey = keyHex(author.publicKey);
  const own = entries.find((entry) => keyOf(entry) === authorKey);
  if (own === undefined) {
    const fact = "the root that is to sign it is none of those that it speaks of";
    throw new RiprapError("root_unknown", `Cannot sign what the roots of ${trustDomain} are: ${fact}`);
  }
  const by = fingerprintOf(own);
  return entries.map((entry, index) => {
    if (entry === own) return entry.state === "retired" ? { ...entry, state: "trusted", keep: [] } : entry;
    const point = Buffer.from(keyOf(entry), "hex");
    if (index === 0 || entry.endorsement !== "") return entry;
    return { ...entry, by, endorsement: keyHex(author.sign(endorsementBytes(trustDomain, point))) };
  });
}

/** States go one way: who is retired or revoked comes back in no later record. */
function isKept(held: RootEntry, roots: readonly RootEntry[]): boolean {
  const now = roots.find(({ certificate }) => certificate === held.certificate);
  return now !== undefined && STATES.indexOf(now.state) >= STATES.indexOf(held.state);
}

function endorsementBytes(trustDomain: string, point: Uint8Array): Uint8Array {
  return new OctetWriter().text8(DOMAIN).text8(trustDomain).bytes8(point).end();
}
