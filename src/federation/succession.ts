// The roots of a trust domain as its fleet follows them: which may speak, which only end certificate paths, which are gone, and who brought each in. Pure.
import { hash } from "node:crypto";
import { RiprapError } from "../error.ts";
import { parseBody, ROOT_ENTRIES_MAX, ROOT_KEEP_MAX, type RootEntry, writeBody } from "./body.ts";
import { keyHex, rootPoint, type Signer, verifySignature } from "./curve.ts";
import { OctetWriter } from "./octet.ts";
import { containsRoots, isLater, joinRoots } from "./root_join.ts";
import { compareStatements, type Statement } from "./statement.ts";

/** What an earlier root signs about a later one begins with this, so that no other signed thing can be taken for it. */
const DOMAIN = "riprap root succession 1";

/** Records that stand at once: each root's last one, and what two holders of one root's key said without knowing of one another. */
const RECORDS_MAX = 64;
const RECORDS_OF_ROOT_MAX = 4;

export type SuccessionFault = readonly [code: "root_unknown" | "root_retired" | "author_full", fact: string];

/** A record that stands. */
interface Held {
  readonly statement: Statement;
  readonly roots: readonly RootEntry[];
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

/**
 * What of the roots stands on a node: by the records that it has, or by the roots that it was enrolled with. Records that were said without knowing of
 * one another stand side by side and count together, so that it does not matter which came first.
 */
export class Succession {
  readonly #trustDomain: string;
  readonly #base: ReadonlySet<string>;
  /** By hash. */
  readonly #held = new Map<string, Held>();
  #view: View;

  /** `roots`: P-256 points that the node was enrolled with. */
  constructor(trustDomain: string, roots: readonly Uint8Array[]) {
    this.#trustDomain = trustDomain;
    this.#base = new Set(roots.map(keyHex));
    this.#view = this.#viewOf([]);
  }

  /** In the order in which they came; undefined while nobody has spoken of them. */
  get entries(): readonly RootEntry[] | undefined {
    return this.#view.entries;
  }

  /** Those that stand, the latest first. */
  get records(): readonly Statement[] {
    return inOrder([...this.#held.values()])
      .map(({ statement }) => statement)
      .reverse();
  }

  /** Whether the key may speak of the roots now. */
  isTrusted(key: string): boolean {
    return isTrusted(this.#view, key);
  }

  /** Whether a root said this while it could: of one that retired or was revoked, the words that its successor named. */
  stands(key: Uint8Array, statementHash: string): boolean {
    const text = keyHex(key);
    const { keep } = this.#view;
    return keep.has(text) && (keep.get(text)?.has(statementHash.slice(0, 32)) ?? true);
  }

  /**
   * Whether what stands without this record says all of it: another record of its author does, or, of an author that may speak no more, all that stand
   * do together. What a root that speaks has said stands beside what others say, whose own right may end.
   */
  isCovered(statement: Statement): boolean {
    const { roots } = parseBody("roots", statement);
    const others = this.#others(statement);
    const isSaid = others.some(
      (other) =>
        other.statement.authorId === statement.authorId &&
        containsRoots(other.roots, roots) &&
        (!containsRoots(roots, other.roots) || other.statement.hash > statement.hash),
    );
    if (isSaid) return true;
    const view = this.#viewOf(others);
    return !isTrusted(view, keyHex(statement.author)) && containsRoots(view.entries ?? [], roots);
  }

  /** Why a record may not stand beside the others; undefined when it may. Its signature is not looked at. */
  fault(statement: Statement): SuccessionFault | undefined {
    const { roots } = parseBody("roots", statement);
    const author = keyHex(statement.author);
    const others = this.#others(statement);
    const view = this.#viewOf(others);
    if (!this.#reach(view, roots).has(author))
      return view.keep.has(author)
        ? ["root_retired", "its author is a root that may speak no more"]
        : ["root_unknown", "no root that this node knows has brought in its author"];
    if (!roots.some((entry) => keyOf(entry) === author && entry.state === "trusted"))
      return ["root_retired", "its author says of itself that it may speak no more"];
    const left = others.filter(
      (held) => held.statement.authorId !== statement.authorId || !containsRoots(roots, held.roots),
    );
    const own = left.filter((held) => held.statement.authorId === statement.authorId);
    return left.length < RECORDS_MAX && own.length < RECORDS_OF_ROOT_MAX
      ? undefined
      : [
          "author_full",
          `${left.length} records of the roots stand, ${own.length} of them its author's, and no more may`,
        ];
  }

  /** From now on. Answers the keys whose words must be judged again. */
  add(statement: Statement): string[] {
    return this.#change(() => this.#held.set(statement.hash, { statement, ...parseBody("roots", statement) }));
  }

  /** No more. Answers the keys whose words must be judged again. */
  remove({ hash }: Statement): string[] {
    return this.#change(() => this.#held.delete(hash));
  }

  #change(work: () => void): string[] {
    const before = [...this.#view.keep.keys()];
    work();
    this.#view = this.#viewOf([...this.#held.values()]);
    return [...new Set([...before, ...this.#view.keep.keys()])];
  }

  #others({ hash }: Statement): Held[] {
    return [...this.#held.values()].filter(({ statement }) => statement.hash !== hash);
  }

  #viewOf(records: readonly Held[]): View {
    if (records.length === 0)
      return { entries: undefined, keep: new Map([...this.#base].map((key) => [key, undefined])) };
    const entries = joinRoots(inOrder(records).map(({ roots }) => roots));
    return { entries, keep: keepOf(entries) };
  }

  /** The keys that a node comes to from the roots that it trusts, each brought in by one before it. */
  #reach(view: View, roots: readonly RootEntry[]): ReadonlySet<string> {
    const reached = new Set([...view.keep.keys()].filter((key) => isTrusted(view, key)));
    for (const entry of roots) {
      const by = roots.find((other) => fingerprintOf(other) === entry.by);
      const [key, sponsor] = [keyOf(entry), by === undefined ? "" : keyOf(by)];
      // One that has ended is not brought in a second time.
      if (key === "" || view.keep.has(key) || !reached.has(sponsor)) continue;
      const signed = endorsementBytes(this.#trustDomain, Buffer.from(key, "hex"));
      if (verifySignature(signed, Buffer.from(entry.endorsement, "hex"), Buffer.from(sponsor, "hex"))) reached.add(key);
    }
    return reached;
  }
}

/** What some records come to. */
interface View {
  readonly entries: readonly RootEntry[] | undefined;
  /** Key to what still stands of its words; undefined: all of them. */
  readonly keep: ReadonlyMap<string, ReadonlySet<string> | undefined>;
}

function isTrusted({ keep }: View, key: string): boolean {
  return keep.has(key) && keep.get(key) === undefined;
}

function inOrder(records: readonly Held[]): readonly Held[] {
  return [...records].sort((a, b) => compareStatements(a.statement, b.statement));
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
    if (now === undefined || !isLater(now.state, entry.state)) return entry;
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

function endorsementBytes(trustDomain: string, point: Uint8Array): Uint8Array {
  return new OctetWriter().text8(DOMAIN).text8(trustDomain).bytes8(point).end();
}
