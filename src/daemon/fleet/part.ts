// What a node's fleet is built of.

import type { KeyStore } from "../../ca.ts";
import type { Clock } from "../../clock.ts";
import type { Transport } from "../../federation/transport.ts";
import type { Store } from "../../store.ts";
import type { Log } from "../log.ts";
import type { FleetHooks } from "./hook.ts";
import type { Reply, Said } from "./wire.ts";

export interface FleetParts {
  readonly stateDir: string;
  readonly nodeName: string;
  readonly trustDomain: string;
  /** DER of the roots at the start. */
  readonly bundle: readonly Uint8Array[];
  readonly idPrefixes: readonly string[];
  /** Point of this node's intermediate, which is made anew now and then. */
  authorityKey(): Uint8Array;
  readonly keys: KeyStore;
  /** Its public nkey, where it has a broker. */
  readonly nkey?: string | undefined;
  readonly store: Store;
  readonly clock: Clock;
  readonly log: Log;
  readonly random: () => number;
  readonly hooks: FleetHooks;
  /** Undefined: this node has no broker. Opened when the fleet runs. */
  readonly openTransport: (() => Promise<Transport>) | undefined;
  /** Told when there is a broker: who answers more than the comparison of states subscribes then. */
  onTransport?(transport: Transport): void;
  /** What else runs for as long as the fleet does. */
  run?(signal: AbortSignal): Promise<void>;
  /** Answers to questions that are not of the comparison of states, as the renewal of an intermediate. */
  answer?(said: Said): Promise<Reply | undefined>;
}
