// Writes what became of statements into the fleet's journal and the log, in the words that a person reads.

import { describeError } from "../../error.ts";
import type { Change } from "../../federation/fleet_state.ts";
import { readSerialSet } from "../../federation/serial_set.ts";
import type { Statement } from "../../federation/statement.ts";
import { isSuccession } from "../../federation/succession.ts";
import { tryParseSerialSetName } from "../../fleet.ts";
import type { Log } from "../log.ts";
import type { FleetJournal } from "./event.ts";

const REFUSED_MAX = 256;
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
  conflicts = 0;

  constructor(journal: FleetJournal, log: Log) {
    this.#journal = journal;
    this.#log = log;
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

  /** A key that has a role, or had one, says more than it may: it is stolen, or a person should know. Once, whatever it says after that. */
  refused(statement: Statement, { from, code, reason }: RefusedWord): void {
    const { hash, key, kind, authorId } = statement;
    const isAboutRoots = isSuccession(statement);
    // Strangers could say as much as they like, and a node's word of itself is refused by the minute once the node is.
    if (!isAboutRoots && (code === "author_unknown" || OWN_WORDS.has(kind))) return;
    const once = isAboutRoots ? hash : `${authorId} ${code}`;
    if (this.#refused.has(once)) return;
    if (this.#refused.size >= REFUSED_MAX) this.#refused.clear();
    this.#refused.add(once);
    const event = isAboutRoots ? "a word about the roots of the trust domain was refused" : "a word was refused";
    this.#log.error(event, { from, key, author: authorId, statement: hash, reason });
    try {
      const by = `${reason}; by ${authorId}, statement ${hash.slice(0, 16)}`;
      if (isAboutRoots) this.#journal.record("roots refused", from, by);
      else this.#journal.record("refused", key, `${by}, from ${from}`);
    } catch (thrown) {
      this.#log.error("the fleet's journal cannot be written", { error: describeError(thrown) });
    }
  }

  conflict(winner: Statement, loser: Statement): void {
    this.conflicts += 1;
    const [stands, falls] = [winner, loser].map(({ hash, authorId }) => `${hash.slice(0, 16)} by ${authorId}`);
    this.#journal.record("conflict", winner.key, `${stands} stands, ${falls} does not`);
    this.#log.warn("two words of the fleet contradict one another", {
      key: winner.key,
      stands: winner.hash,
      falls: loser.hash,
    });
  }
}
