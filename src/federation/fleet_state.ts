// All statements that stand on one node: takes or refuses each, and says what differs from another node. The same statements in any order give the same state.
import { type FleetGeneration, tryParseSerialSetName, writeScope } from "../fleet.ts";
import type { RootEntry } from "./body.ts";
import { BOUNDS, type Bounds, Holdings } from "./bound.ts";
import { keyHex, keyIdOf } from "./curve.ts";
import { type Difference, DigestTree, type StateDigest, statementId } from "./digest.ts";
import { FUTURE_MAX_MS } from "./gate.ts";
import { Generation } from "./generation.ts";
import { U48_MAX } from "./octet.ts";
import type { ApplyOutcome, Change, StatementRefusalCode } from "./outcome.ts";
import { judgeRight, type RightContext } from "./right.ts";
import { Standing } from "./standing.ts";
import {
  compareStatements,
  isSuccession,
  parseStatement,
  rankOf,
  STATEMENT_KINDS,
  type Statement,
  type StatementDraft,
  type StatementKind,
  verifyStatement,
} from "./statement.ts";
import { Succession } from "./succession.ts";

/** A certificate that ended an hour ago needs no revocation, whatever the clocks. */
const EXPIRY_GRACE_MS = 3600 * 1000;

/** Statements in one message: small ones are some 300 bytes. */
export const BATCH_MAX = 4096;
/** The length before each in a message. */
const STATEMENT_HEAD_BYTES = 4;

/** Where statements outlive the process. `atomically` keeps all of what `work` wrote or nothing. */
export interface StatementStore {
  load(): Iterable<Uint8Array>;
  put(key: string, bytes: Uint8Array): void;
  remove(key: string): void;
  atomically<T>(work: () => T): T;
}

export interface FleetStateOptions {
  readonly trustDomain: string;
  /** P-256 points (65 bytes) of the roots that this node was enrolled with: who may say which others there are. */
  readonly roots: readonly Uint8Array[];
  readonly store?: StatementStore;
  /** verifyStatement, unless many states in one process share their answers. */
  readonly verify?: (statement: Statement) => boolean;
  /** BOUNDS, unless a test has less room. */
  readonly bounds?: Bounds;
}

export class FleetState {
  readonly trustDomain: string;
  /** Roles and revocations of what stands. */
  readonly standing = new Standing();
  readonly #held = new Map<string, Statement>();
  readonly #byId = new Map<string, Statement>();
  readonly #byAuthor = new Map<string, Set<string>>();
  readonly #byKind = new Map<StatementKind, Map<string, Statement>>();
  readonly #digests = new DigestTree();
  readonly #generation = new Generation();
  readonly #holdings: Holdings;
  readonly #store: StatementStore | undefined;
  readonly #verify: (statement: Statement) => boolean;
  readonly #succession: Succession;
  readonly #rights: RightContext;
  /** Takes back, step by step, what the work that runs has changed in memory; undefined while none runs. */
  #undo: (() => void)[] | undefined;
  /** Keys of what changed in memory when the store could not keep it: kept with the next that it can. */
  readonly #unkept = new Set<string>();
  #isKept = true;

  constructor({ trustDomain, roots, store, verify = verifyStatement, bounds = BOUNDS }: FleetStateOptions) {
    this.trustDomain = trustDomain;
    this.#holdings = new Holdings(this.standing, bounds);
    const succession = new Succession(trustDomain, roots);
    this.#succession = succession;
    this.#rights = { standing: this.standing, isRootWord: (key, hash) => succession.stands(key, hash) };
    this.#verify = verify;
    this.#store = undefined;
    // What this node stored was verified and counted when it came; its rights are judged again, because roots may have gone.
    if (store !== undefined) for (const statement of readStore(store)) this.#take(statement);
    this.#store = store;
  }

  get size(): number {
    return this.#held.size;
  }

  /** Takes a statement that stands by its author's right, its revision and its signature. `now` in milliseconds. */
  apply(statement: Statement, now: number): ApplyOutcome {
    if (statement.expiresAt !== 0 && now > statement.expiresAt + EXPIRY_GRACE_MS) {
      return refuse("expired", "what it is about has ended");
    }
    return this.#commit(() => this.#take(statement, now));
  }

  /** Several at once, in the order in which they depend on one another; kept on disk together. */
  applyAll(statements: readonly Statement[], now: number): { statement: Statement; outcome: ApplyOutcome }[] {
    return this.#commit(() =>
      sortByKind(statements).map((statement) => ({ statement, outcome: this.apply(statement, now) })),
    );
  }

  /**
   * The revocations among them, in force in memory though the store fails: what is revoked must not be let in for want of a disk. They are kept
   * with the next change that the store takes.
   */
  applyUnkept(statements: readonly Statement[], now: number): { statement: Statement; outcome: ApplyOutcome }[] {
    this.#isKept = false;
    try {
      return sortByKind(statements)
        .filter(({ kind }) => kind === "revocation")
        .map((statement) => ({ statement, outcome: this.apply(statement, now) }));
    } finally {
      this.#isKept = true;
    }
  }

  /** Removes what has ended, and what was taken while the clock was wrong: no honest word could take its place before the clock comes to it. */
  prune(now: number): Change[] {
    const held = [...this.#held.values()];
    const ended = held.filter(({ expiresAt }) => expiresAt !== 0 && now > expiresAt + EXPIRY_GRACE_MS);
    const ahead = held.filter((statement) => isAhead(statement, now));
    return this.#commit(() => [
      ...ended.flatMap((statement) => this.#removeHeld(statement, "it has ended")),
      ...ahead.flatMap((statement) => this.#removeHeld(statement, "its revision is beyond the clock of this node")),
    ]);
  }

  /** What the fleet says of the roots, in the order in which they came; undefined while it has said nothing. */
  get roots(): readonly RootEntry[] | undefined {
    return this.#succession.entries;
  }

  /** The records that say it, the latest first. */
  get rootRecords(): readonly Statement[] {
    return this.#succession.records;
  }

  /** Whether a root's key may say something new. */
  isRootTrusted(publicKey: Uint8Array): boolean {
    return this.#succession.isTrusted(keyHex(publicKey));
  }

  get(kind: StatementKind, name: string): Statement | undefined {
    return this.#byKind.get(kind)?.get(`${kind}/${name}`);
  }

  list(kind: StatementKind): readonly Statement[] {
    return [...(this.#byKind.get(kind)?.values() ?? [])];
  }

  /** Everything that a key has said and that stands. */
  listByAuthor(authorId: string): readonly Statement[] {
    return [...(this.#byAuthor.get(authorId) ?? [])].map((key) => this.#held.get(key) as Statement);
  }

  /** A draft that would take the place of what stands under its key. Of two revocations of the greatest revision the later one stands. */
  draft(draft: Omit<StatementDraft, "trustDomain" | "revision">, author: string): StatementDraft {
    const revision = this.nextRevision(draft.kind, draft.name, author);
    return { ...draft, trustDomain: this.trustDomain, scope: draft.scope ?? writeScope({ type: "all" }), revision };
  }

  /** Beyond that of whatever stands under the key; without an author it is no revocation's. */
  nextRevision(kind: StatementKind, name: string, author = ""): number {
    const key = kind === "revocation" ? `${kind}/${name}@${author}` : `${kind}/${name}`;
    const held = isSuccession({ kind, name }) ? this.rootRecords[0] : this.#held.get(key);
    return Math.min(U48_MAX, (held?.revision ?? 0) + 1);
  }

  /** Of every resource, whoever it is for: what a node acknowledges. */
  generation(): FleetGeneration {
    return this.#generation.value();
  }

  digest(): StateDigest {
    return this.#digests.digest();
  }

  /** The root alone: equal on two nodes means that nothing differs. */
  root(): string {
    return this.#digests.root();
  }

  /** The same without presences: of a large fleet one is always on its way. */
  lastingRoot(): string {
    return this.#digests.lastingRoot();
  }

  /** What this node has where the other's digest differs, as much as one answer holds. `random` draws what comes first, 0 up to 1. */
  difference(theirs: StateDigest, random: () => number = Math.random): Difference {
    return this.#digests.difference(theirs, random);
  }

  /** What to ask of the one who sent this difference, and what it lacks. */
  compare(theirs: Difference): { want: readonly string[]; give: readonly string[] } {
    const want: string[] = [];
    const seen = new Map(theirs.heads.map((head) => [head.id, head]));
    for (const head of theirs.heads) {
      const mine = this.#digests.get(head.id);
      if (mine === undefined || (mine.hash !== head.hash && head.rank >= mine.rank)) want.push(head.id);
    }
    const give = this.#digests.headsOf(theirs).filter((mine) => {
      const head = seen.get(mine.id);
      return head === undefined || (head.hash !== mine.hash && mine.rank >= head.rank);
    });
    return { want, give: give.map(({ id }) => id) };
  }

  /** The statements with these ids, in the order in which they depend on one another, up to a number of bytes. */
  pick(ids: readonly string[], bytesMax: number): readonly Statement[] {
    const found = sortByKind(ids.map((id) => this.#byId.get(id)).filter((statement) => statement !== undefined));
    let bytes = 0;
    const fits = (statement: Statement) => {
      bytes += statement.bytes.length + STATEMENT_HEAD_BYTES;
      return bytes <= bytesMax;
    };
    return found.slice(0, BATCH_MAX).filter(fits);
  }

  /** Without `now`: from the store, where nothing stands that was not verified and counted. */
  #take(statement: Statement, now?: number): ApplyOutcome {
    const isSigned = () => now === undefined || this.#verify(statement);
    if (statement.trustDomain !== this.trustDomain) {
      return refuse("wrong_trust_domain", `it is of another trust domain than ${this.trustDomain}`);
    }
    const held = this.#held.get(statement.key);
    if (held?.hash === statement.hash) return { outcome: "duplicate" };
    const fault = judgeRight(statement, this.#rights);
    if (fault !== undefined) return refuse(...fault);
    if (now !== undefined && isAhead(statement, now))
      return refuse("revision_ahead", "its revision is beyond the clock of this node");
    if (this.#isCovered(statement)) return { outcome: "duplicate" };
    const isSame = held !== undefined && held.revision === statement.revision;
    if (held !== undefined && compareStatements(statement, held) < 0) {
      const conflict = isSame && isSigned() ? { winner: held, loser: statement } : undefined;
      return { outcome: "stale", held, conflict };
    }
    const unfit = isSuccession(statement) ? this.#succession.fault(statement) : undefined;
    if (unfit !== undefined) return refuse(...unfit);
    const full = now === undefined ? undefined : this.#holdings.fault(statement, held);
    if (full !== undefined) return refuse(...full);
    if (!isSigned()) return refuse("forged", "its author did not sign it as it stands");
    const conflict = isSame ? { winner: statement, loser: held } : undefined;
    const removed = this.#put(statement, held);
    return { outcome: "accepted", changes: [{ type: "put", statement, replaced: held, conflict }, ...removed] };
  }

  #put(statement: Statement, held: Statement | undefined): Change[] {
    const before = held === undefined ? [] : this.#forget(held);
    const after = this.#note(statement);
    this.#keep(statement.key);
    return [...this.#cover(statement), ...this.#judgeAll([...before, ...after])];
  }

  /** What a set of serial numbers says its author need not say one by one. */
  #cover({ name, key, authorId }: Statement): Change[] {
    if (tryParseSerialSetName(name) === undefined) return [];
    const covered = this.listByAuthor(authorId).filter((statement) => this.standing.isCovered(statement, key));
    return covered.flatMap((statement) => this.#dropCovered(statement));
  }

  #dropCovered(statement: Statement): Change[] {
    const keys = this.#forget(statement);
    this.#keep(statement.key);
    return [{ type: "covered", statement }, ...this.#judgeAll(keys)];
  }

  #remove(statement: Statement, reason: string): Change[] {
    const keys = this.#forget(statement);
    this.#keep(statement.key);
    return [{ type: "removed", statement, reason }, ...this.#judgeAll(keys)];
  }

  /** Unless the removal of another took it along. */
  #removeHeld(statement: Statement, reason: string): Change[] {
    return this.#held.get(statement.key) === statement ? this.#remove(statement, reason) : [];
  }

  #keep(key: string): void {
    if (!this.#isKept) {
      this.#unkept.add(key);
      return;
    }
    const statement = this.#held.get(key);
    if (statement === undefined) this.#store?.remove(key);
    else this.#store?.put(key, statement.bytes);
  }

  /** Into every index; answers the keys whose words must be judged again. */
  #note(statement: Statement): string[] {
    const id = statementId(statement.key);
    this.#held.set(statement.key, statement);
    this.#byId.set(id, statement);
    this.#digests.set({ id, rank: rankOf(statement), hash: statement.hash.slice(0, 32) });
    this.#byAuthor.set(statement.authorId, (this.#byAuthor.get(statement.authorId) ?? new Set()).add(statement.key));
    const kind = this.#byKind.get(statement.kind) ?? new Map<string, Statement>();
    this.#byKind.set(statement.kind, kind.set(statement.key, statement));
    this.#generation.add(statement);
    this.#holdings.add(statement);
    this.#undo?.push(() => this.#forget(statement));
    return isSuccession(statement) ? this.#succession.add(statement) : this.standing.add(statement);
  }

  /** Out of every index; answers the keys whose words must be judged again. */
  #forget(statement: Statement): string[] {
    const id = statementId(statement.key);
    this.#held.delete(statement.key);
    this.#byId.delete(id);
    this.#digests.remove(id);
    const said = this.#byAuthor.get(statement.authorId);
    said?.delete(statement.key);
    if (said?.size === 0) this.#byAuthor.delete(statement.authorId);
    this.#byKind.get(statement.kind)?.delete(statement.key);
    this.#generation.remove(statement);
    this.#holdings.remove(statement);
    this.#undo?.push(() => this.#note(statement));
    return isSuccession(statement) ? this.#succession.remove(statement) : this.standing.remove(statement);
  }

  /** All of what `work` changes, in memory and in the store, or nothing: what is not kept must not be in force until the next start alone. */
  #commit<T>(work: () => T): T {
    if (this.#undo !== undefined) return work();
    const undo: (() => void)[] = [];
    this.#undo = undo;
    try {
      if (this.#store === undefined || !this.#isKept) return work();
      const done = this.#store.atomically(() => {
        for (const key of this.#unkept) this.#keep(key);
        return work();
      });
      this.#unkept.clear();
      return done;
    } catch (thrown) {
      this.#undo = undefined;
      for (const step of undo.reverse()) step();
      throw thrown;
    } finally {
      this.#undo = undefined;
    }
  }

  #judgeAll(keys: readonly string[]): Change[] {
    return [...new Set(keys)].flatMap((key) => this.#judgeAgain(key));
  }

  /** Roles run one way (root, issuing node, operator, node), so that this comes to an end. */
  #judgeAgain(key: string): Change[] {
    const changes: Change[] = [];
    for (const statement of this.listByAuthor(keyIdOf(Buffer.from(key, "hex")))) {
      if (this.#held.get(statement.key) !== statement) continue;
      if (isSuccession(statement)) changes.push(...this.#judgeRecord(statement));
      else {
        const fault = judgeRight(statement, this.#rights);
        if (fault !== undefined) changes.push(...this.#remove(statement, fault[1]));
      }
    }
    return changes;
  }

  #judgeRecord(statement: Statement): Change[] {
    if (this.#succession.isCovered(statement)) return this.#dropCovered(statement);
    const fault = this.#succession.fault(statement);
    return fault === undefined ? [] : this.#remove(statement, fault[1]);
  }

  #isCovered(statement: Statement): boolean {
    return isSuccession(statement) ? this.#succession.isCovered(statement) : this.standing.isCovered(statement);
  }
}

/**
 * Whether a revision is greater than the clock allows, so that there is a next one whatever a stolen key has said. Those of honest authors are counters,
 * far below, so that a node whose clock is wrong takes them. A revocation takes no other author's place.
 */
function isAhead({ kind, revision }: Statement, now: number): boolean {
  return kind !== "revocation" && revision > now + FUTURE_MAX_MS;
}

/** Roots and grants before what rests on them. */
function sortByKind(statements: readonly Statement[]): Statement[] {
  const rank = (statement: Statement) => (isSuccession(statement) ? -1 : STATEMENT_KINDS.indexOf(statement.kind));
  return [...statements].sort((a, b) => rank(a) - rank(b) || (isSuccession(a) ? compareStatements(a, b) : 0));
}

function readStore(store: StatementStore): Statement[] {
  return sortByKind([...store.load()].map(parseStatement));
}

function refuse(code: StatementRefusalCode, fact: string): ApplyOutcome {
  return { outcome: "refused", code, message: `Cannot take the statement: ${fact}` };
}
