// The broker's key-value store as a place where statements wait for nodes that are away. What lies there is judged as any message is.

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

export interface MeetingPointParts {
  readonly transport: Transport;
  readonly name: string;
  readonly state: FleetState;
  readonly log: Log;
  take(statements: readonly Statement[]): number;
}

export class MeetingPoint {
  readonly #parts: MeetingPointParts;
  #store: KeyedStore | undefined;

  constructor(parts: MeetingPointParts) {
    this.#parts = parts;
  }

  /** A connection came: reads all that is there, and leaves what is missing. Never rejects. */
  async visit(): Promise<void> {
    const { transport, name, log } = this.#parts;
    try {
      this.#store = await transport.store(name);
      if (this.#store === undefined) return;
      const there = await this.#read(this.#store);
      const missing = [...KEPT].flatMap((kind) => this.#parts.state.list(kind)).filter(({ hash }) => !there.has(hash));
      for (const statement of missing) await this.#store.put(statementId(statement.key), statement.bytes);
    } catch (thrown) {
      log.debug("the broker's store could not be used", { error: describeError(thrown) });
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
      if (statement === undefined) continue;
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
