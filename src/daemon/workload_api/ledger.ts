// Which process was given which SVID with its key, also across restarts of the daemon: revoked when the process ends or its identity is taken away.

import { readFileSync } from "node:fs";
import type { NodeAuthority } from "../../ca.ts";
import type { Clock } from "../../clock.ts";
import { describeError } from "../../error.ts";
import type { SpiffeId } from "../../spiffe_id.ts";
import type { Store, StoreStatement } from "../../store.ts";
import { isSameStart } from "../attestation/pin.ts";
import { tryReadRunning } from "../attestation/proc.ts";
import type { Log } from "../log.ts";

const MIGRATIONS = [
  `CREATE TABLE workload_svid (
     serial TEXT PRIMARY KEY, boot TEXT NOT NULL, pid INTEGER NOT NULL, started TEXT NOT NULL, spiffe_id TEXT NOT NULL, not_after INTEGER NOT NULL
   ) STRICT, WITHOUT ROWID;`,
];
/** How long after the end of a process that keeps no connection its SVIDs are revoked, at most. */
export const LOOK_EVERY_MS = 10_000;
/** A process has a stream of each kind or a few, and renews at half life; one that asks again and again uses the latest. */
const HELD_MAX = 1024;
/** How long a process takes to end after it has closed its connections; a large one is met by the next round. */
const END_WAITS_MS = [20, 200, 1000] as const;
/** Processes looked at in one go, some 20 µs each: calls are answered in between. */
const LOOKS_MAX = 256;
const BOOT_ID = "/proc/sys/kernel/random/boot_id";

/** A process by number and start. */
export interface Holder {
  readonly pid: number;
  readonly startTimeNs: bigint;
}

export interface DeliveredSvid {
  readonly serial: string;
  readonly spiffeId: SpiffeId;
  /** Milliseconds since the epoch. */
  readonly notAfter: number;
}

interface Held {
  readonly serial: string;
  readonly spiffeId: string;
  readonly notAfter: number;
}

interface Account extends Holder {
  /** The start as the table has it: a bigint is slow to write. */
  readonly started: string;
  /** Of an earlier process with the same number, until that is settled. */
  older: Account | undefined;
  /** Oldest first. There are as many accounts as workloads: mostly a list of one. */
  held: Held[];
  /** What is to be revoked, and was not yet. */
  owed: { readonly held: Held; readonly reason: string }[] | undefined;
}

export interface LedgerParts {
  readonly store: Store;
  readonly authority: Pick<NodeAuthority, "revoke">;
  readonly clock: Clock;
  readonly log: Log;
  /** Does this very process still run? */
  readonly isRunning?: (holder: Holder) => boolean;
}

export class Ledger {
  /** SVIDs revoked before their end. */
  revoked = 0;
  readonly #parts: LedgerParts;
  /** By PID, the latest process of each. */
  readonly #accounts = new Map<number, Account>();
  #size = 0;
  readonly #boot = readFileSync(BOOT_ID, "utf8").trim();
  readonly #insert: StoreStatement<never>;
  readonly #delete: StoreStatement<never>;
  readonly #isRunning: (holder: Holder) => boolean;

  /** Takes up what an earlier daemon delivered; what was of an earlier boot is revoked by the next sweep. */
  constructor(parts: LedgerParts) {
    const { store, clock } = parts;
    this.#parts = parts;
    this.#isRunning = parts.isRunning ?? isRunning;
    store.migrate("workload", MIGRATIONS);
    this.#insert = store.prepare("INSERT INTO workload_svid VALUES (?, ?, ?, ?, ?, ?)");
    this.#delete = store.prepare("DELETE FROM workload_svid WHERE serial = ?");
    const now = clock.now();
    store.prepare("DELETE FROM workload_svid WHERE not_after <= ?").run(now);
    for (const row of store.prepare<Row>("SELECT * FROM workload_svid ORDER BY not_after").all()) {
      // Of an earlier boot: no process has such a number, so that the next look finds it ended.
      const pid = row.boot === this.#boot ? row.pid : -row.pid;
      const holder = { pid, startTimeNs: BigInt(row.started) };
      this.#keep(holder, { serial: row.serial, spiffeId: row.spiffe_id, notAfter: row.not_after });
    }
  }

  /** Processes that hold an SVID. */
  get size(): number {
    return this.#size;
  }

  /** Written with the SVID's own entry in the journal: to be called inside its transaction. */
  write(holder: Holder, { serial, spiffeId, notAfter }: DeliveredSvid): void {
    const started = this.#find(holder)?.started ?? holder.startTimeNs.toString();
    this.#insert.run(serial, this.#boot, holder.pid, started, spiffeId.toString(), notAfter);
  }

  /** After that transaction. */
  add(holder: Holder, { serial, spiffeId, notAfter }: DeliveredSvid): void {
    this.#keep(holder, { serial, spiffeId: spiffeId.toString(), notAfter });
  }

  #keep(holder: Holder, held: Held): void {
    const account = this.#find(holder);
    if (account === undefined) {
      const { pid, startTimeNs } = holder;
      const older = this.#accounts.get(pid);
      this.#accounts.set(pid, {
        ...{ pid, startTimeNs, started: startTimeNs.toString(), older },
        ...{ held: [held], owed: undefined },
      });
      this.#size += 1;
      return;
    }
    account.held.push(held);
    if (account.held.length <= HELD_MAX) return;
    const oldest = account.held.shift() as Held;
    // Revoked by the next look.
    account.owed ??= [];
    account.owed.push({ held: oldest, reason: "the process asked for too many more" });
  }

  /** Revokes what the process holds; with `except`, only what is of another identity. Never throws: what fails is tried again. */
  withdraw(holder: Holder, reason: string, except?: SpiffeId): void {
    const account = this.#find(holder);
    if (account === undefined) return;
    const kept = except === undefined ? "" : except.toString();
    const taken = account.held.filter(({ spiffeId }) => spiffeId !== kept);
    if (taken.length === 0) return;
    owe(account, taken, reason);
    this.#look([account]);
  }

  /** A connection of the process has ended, which is often its own end: a process closes what it has open a little before that. */
  async lookSoon(holder: Holder): Promise<void> {
    for (const wait of END_WAITS_MS) {
      const account = this.#find(holder);
      if (account === undefined) return;
      await this.#parts.clock.sleep(wait);
      this.#look([account]);
    }
  }

  /** Looks at every process, in portions, until the signal. */
  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const accounts = [...this.#all()];
      for (let at = 0; at < accounts.length && !signal.aborted; at += LOOKS_MAX) {
        this.#look(accounts.slice(at, at + LOOKS_MAX));
        await new Promise<void>((resolve) => setImmediate(resolve));
      }
      await this.#parts.clock.sleep(LOOK_EVERY_MS, signal).catch(() => undefined);
    }
  }

  #look(accounts: readonly Account[]): void {
    for (const account of accounts) {
      try {
        this.#settle(account);
      } catch (thrown) {
        // The store does not take it now: at the next look.
        this.#parts.log.error("an SVID could not be revoked", { pid: account.pid, error: describeError(thrown) });
      }
    }
  }

  #settle(account: Account): void {
    const { clock } = this.#parts;
    if (!this.#isRunning(account)) owe(account, account.held, "the process has ended");
    this.#pay(account);
    const now = clock.now();
    const ended = account.held.filter(({ notAfter }) => notAfter <= now);
    if (ended.length > 0) {
      this.#forget(ended);
      account.held = account.held.filter(({ notAfter }) => notAfter > now);
    }
    if (account.held.length === 0) this.#remove(account);
  }

  #find({ pid, startTimeNs }: Holder): Account | undefined {
    let account = this.#accounts.get(pid);
    while (account !== undefined && account.startTimeNs !== startTimeNs) account = account.older;
    return account;
  }

  *#all(): Generator<Account> {
    for (const latest of this.#accounts.values())
      for (let account: Account | undefined = latest; account !== undefined; account = account.older) yield account;
  }

  #remove(account: Account): void {
    const latest = this.#accounts.get(account.pid);
    let before: Account | undefined;
    for (let at = latest; at !== undefined && at !== account; at = at.older) before = at;
    // Looked at twice in one moment: it is gone already.
    if (latest === undefined || (before !== undefined && before.older === undefined)) return;
    if (before !== undefined) before.older = account.older;
    else if (account.older !== undefined) this.#accounts.set(account.pid, account.older);
    else this.#accounts.delete(account.pid);
    this.#size -= 1;
  }

  #pay(account: Account): void {
    const { owed } = account;
    if (owed === undefined) return;
    const { authority, clock, store } = this.#parts;
    const now = clock.now();
    const living = owed.filter(({ held }) => held.notAfter > now);
    store.transaction(() => {
      for (const { held, reason } of living) authority.revoke(held.serial, reason);
      for (const { held } of owed) this.#delete.run(held.serial);
    });
    this.revoked += living.length;
    account.owed = undefined;
  }

  #forget(held: readonly Held[]): void {
    this.#parts.store.transaction(() => {
      for (const { serial } of held) this.#delete.run(serial);
    });
  }
}

function owe(account: Account, taken: readonly Held[], reason: string): void {
  if (taken.length === 0) return;
  account.owed ??= [];
  for (const held of taken) account.owed.push({ held, reason });
  const gone = new Set(taken);
  account.held = account.held.filter((held) => !gone.has(held));
}

interface Row {
  serial: string;
  boot: string;
  pid: number;
  started: string;
  spiffe_id: string;
  not_after: number;
}

function isRunning({ pid, startTimeNs }: Holder): boolean {
  const found = pid > 0 ? tryReadRunning(pid) : undefined;
  return found !== undefined && isSameStart(found, startTimeNs);
}
