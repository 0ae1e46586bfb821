// The broker's key-value store as a place where statements wait for nodes that are away. What lies there is judged as any message is.

import type { Clock } from "../../clock.ts";
import { describeError } from "../../error.ts";
import { statementId } from "../../federation/digest.ts";
import type { FleetState } from "../../federation/fleet_state.ts";
import { parseStatement, type Statement, type StatementKind } from "../../federation/statement.ts";
import type { KeyedStore, Transport } from "../../federation/transport.ts";
import type { Log } from "../log.ts";

/** Not there: what a node says of itself by the minute is worth nothing to who comes later. */
const KEPT: ReadonlySet<StatementKind> = new Set(["issuer", "operator", "node", "revocation", "resource", "bundle"]);
/** Taken at once while reading. */
const BATCH = 512;
const VISIT_MS = 30_000;
/** A store that is not there is looked for again; where the node has no right to it, the broker notes that each time. */
const AGAIN_FIRST_MS = 5000;
const AGAIN_MOST_MS = 3_600_000;

export interface MeetingPointParts {
  readonly transport: Transport;
  readonly name: string;
  readonly state: FleetState;
  readonly clock: Clock;
  readonly log: Log;
  take(statements: readonly Statement[]): number;
  /** There was something that is no statement. */
  onUnreadable(): void;
}

export class MeetingPoint {
  readonly #parts: MeetingPointParts;
  #store: KeyedStore | undefined;
  #visits = 0;

  constructor(parts: MeetingPointParts) {
    this.#parts = parts;
  }

  /** A connection came: reads all that is there, and leaves what is missing. Again until it could, or another connection comes. Never rejects. */
  async visit(signal: AbortSignal): Promise<void> {
    const { transport, clock } = this.#parts;
    const visit = ++this.#visits;
    for (let wait = AGAIN_FIRST_MS; !(await this.#visitOnce()); wait = Math.min(AGAIN_MOST_MS, 2 * wait)) {
      await clock.sleep(wait, signal).catch(() => undefined);
      if (signal.aborted || visit !== this.#visits || transport.state.phase !== "connected") return;
    }
  }

  /** False when there was no store that answers: a cluster that began just now has none for some seconds. */
  async #visitOnce(): Promise<boolean> {
    const { transport, name, log } = this.#parts;
    try {
      this.#store = await transport.store(name);
      if (this.#store === undefined) return false;
      const there = await this.#read(this.#store);
      const missing = [...KEPT].flatMap((kind) => this.#parts.state.list(kind)).filter(({ hash }) => !there.has(hash));
      let unkept = 0;
      for (const { key, bytes } of missing) if (!(await this.#store.put(statementId(key), bytes))) unkept += 1;
      // It is full, as a rule. Nothing is lost: each node has its own.
      if (unkept > 0 && transport.state.phase === "connected")
        log.warn("the broker's store did not keep all: a node that comes while the others are gone misses it", {
          statements: unkept,
          remedy: `give the stream KV_${name} of the broker's JetStream more room (max_bytes)`,
        });
      return true;
    } catch (thrown) {
      log.debug("the broker's store could not be used", { error: describeError(thrown) });
      return false;
    }
  }

  /** New words of this node's own. */
  keep(statements: readonly Statement[]): void {
    for (const { kind, key, bytes } of statements) if (KEPT.has(kind)) void this.#store?.put(statementId(key), bytes);
  }

  /** Hashes of what is there. */
  async #read(store: KeyedStore): Promise<ReadonlySet<string>> {
    const hashes = new Set<string>();
    let batch: Statement[] = [];
    const flush = () => {
      this.#parts.take(batch);
      batch = [];
    };
    for await (const value of store.list(AbortSignal.timeout(VISIT_MS))) {
      const statement = tryParse(value);
      if (statement === undefined) {
        this.#parts.onUnreadable();
        continue;
      }
      hashes.add(statement.hash);
      batch.push(statement);
      if (batch.length >= BATCH) flush();
    }
    flush();
    return hashes;
  }
}

function tryParse(value: Uint8Array): Statement | undefined {
  try {
    return parseStatement(value);
  } catch {
    // Anyone with the broker's rights may have put it there.
    return undefined;
  }
}
