// SQLite, and the one importer of bun:sqlite. Knows files, pragmas, migrations and transactions; never a table of its own beyond its migrations.
import { Database } from "bun:sqlite";
import { closeSync, constants, fsyncSync, openSync } from "node:fs";
import { dirname, join } from "node:path";
import { RiprapError } from "./error.ts";
import { ensurePrivateDirectory, requirePrivateFile } from "./private_file.ts";

export type StoreValue = string | number | bigint | Uint8Array | null;

export interface StoreStatement<Row> {
  get(...values: StoreValue[]): Row | undefined;
  all(...values: StoreValue[]): Row[];
  /** How many rows were changed. */
  run(...values: StoreValue[]): number;
}

export interface Store {
  readonly path: string;
  /** Applies, once each and in order, the steps that this room has not applied yet. A step that was applied must never be edited. */
  migrate(room: string, steps: readonly string[]): void;
  prepare<Row>(sql: string): StoreStatement<Row>;
  /** Runs `work` in an immediate transaction; inside another, in a savepoint of it. A throw takes back what this `work` did. */
  transaction<T>(work: () => T): T;
  /** Runs `work`, which only asks: all questions are answered by one state, and the file is locked once for all of them. */
  look<T>(work: () => T): T;
  /** What was committed before this returns outlives a power cut too. */
  settle(): void;
  close(): void;
}

/** SQLite's own codes of a file that is not as SQLite wrote it. */
const DAMAGED = /^SQLITE_(CORRUPT|NOTADB)/;
const REMEDIES: readonly (readonly [code: RegExp, remedy: string])[] = [
  [/^(EROFS|EACCES|EPERM|SQLITE_READONLY|SQLITE_CANTOPEN)/, "make the state directory writable for riprap's user"],
  [/^(ENOSPC|EDQUOT|SQLITE_FULL)$/, "make room on the disk"],
];
/** Another process (the CLI beside the daemon) holds the write lock for milliseconds; five seconds means that it hangs. */
const BUSY_TIMEOUT_MS = 5000;

/** Where the node's state lives under its state directory. */
export function storePath(stateDir: string): string {
  return join(stateDir, "state.db");
}

/**
 * Opens or makes the database (mode 0600, in a private directory). `:memory:` is a store of its own. Throws RiprapError `state_not_private`, `store_damaged`
 * (as everything that is then asked of it does) or `store_unusable`.
 */
export function openStore(path: string): Store {
  if (path !== ":memory:") {
    ensurePrivateDirectory(dirname(path));
    // SQLite gives its journal files the mode of the database, so it must be private before the first write.
    touch(path);
    requirePrivateFile(path);
  }
  let database: Database | undefined;
  try {
    database = new Database(path, { create: true, readwrite: true, strict: true });
    database.exec(`PRAGMA busy_timeout = ${BUSY_TIMEOUT_MS}`);
    // NORMAL: a killed daemon loses nothing, and a power cut the last commits: those that speak of processes, which died with it. What outlives
    // them elsewhere (a node's intermediate, a spent token, an epoch, a revocation) is settled before anybody is told.
    database.exec(
      "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA foreign_keys = ON; PRAGMA trusted_schema = OFF",
    );
    database.exec("CREATE TABLE IF NOT EXISTS migration (room TEXT PRIMARY KEY, applied INTEGER NOT NULL) STRICT");
    return new SqliteStore(path, database);
  } catch (cause) {
    database?.close();
    throw damageOf(cause, path) ?? unusable(path, cause);
  }
}

/** Reads the whole of a database, beside whoever else uses it, and writes nothing into the file. Throws RiprapError `store_damaged`, `store_unusable`. */
export function checkStore(path: string): void {
  let database: Database | undefined;
  let found: string | undefined;
  try {
    database = new Database(path, { readonly: true, strict: true });
    database.exec(`PRAGMA busy_timeout = ${BUSY_TIMEOUT_MS}`);
    found = database.query<{ quick_check: string }, []>("PRAGMA quick_check(1)").get()?.quick_check;
  } catch (cause) {
    throw damageOf(cause, path) ?? unusable(path, cause);
  } finally {
    database?.close();
  }
  if (found !== "ok") throw damaged(path, { fact: found ?? "it says nothing" });
}

class SqliteStore implements Store {
  readonly path: string;
  readonly #database: Database;

  constructor(path: string, database: Database) {
    this.path = path;
    this.#database = database;
  }

  migrate(room: string, steps: readonly string[]): void {
    this.transaction(() => {
      const row = this.prepare<{ applied: number }>("SELECT applied FROM migration WHERE room = ?").get(room);
      const applied = row?.applied ?? 0;
      if (applied > steps.length) {
        throw new RiprapError(
          "store_newer",
          `Cannot use the database ${this.path}: its ${room} tables were made by a newer riprap; run that version, or restore a copy`,
        );
      }
      for (const step of steps.slice(applied)) this.#database.exec(step);
      this.prepare("INSERT INTO migration VALUES (?1, ?2) ON CONFLICT (room) DO UPDATE SET applied = ?2").run(
        room,
        steps.length,
      );
    });
  }

  prepare<Row>(sql: string): StoreStatement<Row> {
    // query() keeps the compiled statement by its text: the texts are literals of ours, so there are few.
    const statement = this.#database.query<Row, StoreValue[]>(sql);
    const told = <T>(work: () => T) => this.#told(work);
    return {
      get: (...values) => told(() => statement.get(...values) ?? undefined),
      all: (...values) => told(() => statement.all(...values)),
      run: (...values) => told(() => statement.run(...values).changes),
    };
  }

  transaction<T>(work: () => T): T {
    return this.#told(() => this.#database.transaction(work).immediate());
  }

  look<T>(work: () => T): T {
    return this.#told(() => this.#database.transaction(work).deferred());
  }

  settle(): void {
    if (this.path === ":memory:") return;
    // What has left the log for the database itself was synchronised on its way.
    const log = openSync(`${this.path}-wal`, constants.O_RDONLY);
    try {
      fsyncSync(log);
    } finally {
      closeSync(log);
    }
  }

  #told<T>(work: () => T): T {
    try {
      return work();
    } catch (thrown) {
      throw damageOf(thrown, this.path) ?? thrown;
    }
  }

  close(): void {
    this.#database.close();
  }
}

function damageOf(thrown: unknown, path: string): RiprapError | undefined {
  const { code, message } = thrown as { readonly code?: unknown; readonly message?: unknown };
  if (typeof code !== "string" || !DAMAGED.test(code)) return undefined;
  return damaged(path, { fact: String(message), cause: thrown });
}

function damaged(path: string, { fact, cause }: { readonly fact: string; readonly cause?: unknown }): RiprapError {
  const remedy =
    "stop riprap and restore the file from a copy; without one, `riprap authority rebuild` puts it aside and begins another";
  return new RiprapError("store_damaged", `Cannot use the database ${path}: it is damaged (${fact}); ${remedy}`, {
    cause,
  });
}

function touch(path: string): void {
  try {
    closeSync(openSync(path, constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW, 0o600));
  } catch (cause) {
    throw unusable(path, cause);
  }
}

function unusable(path: string, cause: unknown): RiprapError {
  const { code, message } = cause as { readonly code?: unknown; readonly message: string };
  const remedy = typeof code === "string" ? REMEDIES.find(([known]) => known.test(code))?.[1] : undefined;
  const text = `Cannot open the database ${path}: ${message}${remedy === undefined ? "" : `; ${remedy}`}`;
  return new RiprapError("store_unusable", text, { cause });
}
