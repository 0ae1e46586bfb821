// Writes what became of statements into the fleet's journal and the log, in the words that a person reads.

import { describeError } from "../../error.ts";
import type { Change } from "../../federation/outcome.ts";
import { readSerialSet } from "../../federation/serial_set.ts";
import { isSuccession, type Statement, verifyStatement } from "../../federation/statement.ts";
import { tryParseSerialSetName } from "../../fleet.ts";
import type { Log } from "../log.ts";
import type { FleetJournal } from "./event.ts";

const REFUSED_MAX = 256;
/** Signatures that are looked at in vain for one sender: some milliseconds in all. */
const UNSIGNED_MAX = 64;
/** Contradictions that are written down for one author: one who makes them to order would wash everything else away. */
const CONFLICTS_MAX = 64;
const OWN_WORDS: ReadonlySet<string> = new Set(["presence", "endpoint", "bundle"]);

export interface RefusedWord {
  readonly from: string;
  readonly code: string;
  readonly reason: string;
}

export class Chronicle {
  readonly #journal: FleetJournal;
  readonly #log: Log;
  /** What was said to a person already. */
  readonly #refused = new Set<string>();
  /** Words of each sender that were not signed. */
  readonly #unsigned = new Map<string, number>();
  /** Contradictions of each author. */
  readonly #contradicted = new Map<string, number>();
  readonly #verify: (statement: Statement) => boolean;
  conflicts = 0;

  constructor(journal: FleetJournal, log: Log, verify = verifyStatement) {
    this.#journal = journal;
    this.#log = log;
    this.#verify = verify;
  }

  /** What a node says of itself by the minute is no event. Never throws: what follows from a change must not wait for a disk. */
  record(change: Change, from: string): void {
    try {
      this.#record(change, from);
    } catch (thrown) {
      this.#log.error("the fleet's journal cannot be written", { error: describeError(thrown) });
    }
  }

  #record(change: Change, from: string): void {
    const { statement } = change;
    const by = `by ${statement.authorId}, statement ${statement.hash.slice(0, 16)}, from ${from}`;
    // It is revoked still: the set that says so is a line of its own.
    if (change.type === "covered") return;
    if (change.type === "removed") {
      this.#journal.record("no longer stands", statement.key, `${change.reason}; ${by}`);
      return;
    }
    if (change.conflict !== undefined) this.conflict(change.conflict.winner, change.conflict.loser);
    if (statement.kind === "presence" || statement.kind === "endpoint") return;
    const isRevocation = statement.kind === "revocation";
    const added = change.replaced === undefined ? "added" : "changed";
    const event = isRevocation ? "revoked" : statement.isDeleted ? "deleted" : added;
    const set = tryParseSerialSetName(statement.name) === undefined ? undefined : readSerialSet(statement);
    const what = set === undefined ? by : `${set.count} serial numbers, ${by}`;
    this.#journal.record(event, isRevocation ? statement.name : statement.key, what);
    const facts = { what: event, key: statement.key, statement: statement.hash, from };
    this.#log.info("the fleet's word was taken", facts);
  }

  /**
   * A key that has a role, or had one, says more than it may: it is stolen, or a person should know. Once, whatever it says after that. A word is judged
   * before its signature is: what its author did not sign is told of its sender alone.
   */
  refused(statement: Statement, { from, code, reason }: RefusedWord): void {
    const { hash, key, kind, authorId } = statement;
    const isAboutRoots = isSuccession(statement);
    // Strangers could say as much as they like, and a node's word of itself is refused by the minute once the node is.
    if (!isAboutRoots && (code === "author_unknown" || OWN_WORDS.has(kind))) return;
    const once = isAboutRoots ? hash : `${authorId} ${code}`;
    if (this.#refused.has(once)) return;
    if (code === "forged" || !this.#isSigned(statement, from)) {
      this.#forged(statement, from);
      return;
    }
    this.#note(once);
    const event = isAboutRoots ? "a word about the roots of the trust domain was refused" : "a word was refused";
    this.#log.error(event, { from, key, author: authorId, statement: hash, reason });
    const by = `${reason}; by ${authorId}, statement ${hash.slice(0, 16)}`;
    if (isAboutRoots) this.#write("roots refused", from, by);
    else this.#write("refused", key, `${by}, from ${from}`);
  }

  /** False without a look for a sender who has sent so many that are not signed: a person was told of him. */
  #isSigned(statement: Statement, from: string): boolean {
    const failed = this.#unsigned.get(from) ?? 0;
    if (failed >= UNSIGNED_MAX) return false;
    if (this.#verify(statement)) return true;
    if (this.#unsigned.size >= REFUSED_MAX) this.#unsigned.clear();
    this.#unsigned.set(from, failed + 1);
    return false;
  }

  #forged({ hash, key }: Statement, from: string): void {
    const once = `forged ${from}`;
    if (this.#refused.has(once)) return;
    this.#note(once);
    this.#log.error("a word was refused that is not signed by the author it names", { from, key, statement: hash });
    this.#write("forged", from, `${key} is not signed by the author it names, statement ${hash.slice(0, 16)}`);
  }

  #note(once: string): void {
    if (this.#refused.size >= REFUSED_MAX) this.#refused.clear();
    this.#refused.add(once);
  }

  #write(event: string, subject: string, detail: string): void {
    try {
      this.#journal.record(event, subject, detail);
    } catch (thrown) {
      this.#log.error("the fleet's journal cannot be written", { error: describeError(thrown) });
    }
  }

  /** Counted always; written down once, as long as one author has not too many, and of a node's word of itself not at all. Never throws. */
  conflict(winner: Statement, loser: Statement): void {
    this.conflicts += 1;
    const once = `conflict ${winner.hash} ${loser.hash}`;
    if (OWN_WORDS.has(winner.kind) || this.#refused.has(once)) return;
    const earlier = this.#contradicted.get(loser.authorId) ?? 0;
    if (earlier >= CONFLICTS_MAX) return;
    if (this.#contradicted.size >= REFUSED_MAX) this.#contradicted.clear();
    this.#contradicted.set(loser.authorId, earlier + 1);
    this.#note(once);
    const [stands, falls] = [winner, loser].map(({ hash, authorId }) => `${hash.slice(0, 16)} by ${authorId}`);
    this.#write("conflict", winner.key, `${stands} stands, ${falls} does not`);
    this.#log.warn("two words of the fleet contradict one another", {
      key: winner.key,
      stands: winner.hash,
      falls: loser.hash,
    });
  }
}
