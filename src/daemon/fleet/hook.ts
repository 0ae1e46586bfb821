// What a node's fleet asks of the daemon's other rooms, and what it tells them.

import type { RootEntry } from "../../federation/body.ts";
import type { Statement } from "../../federation/statement.ts";
import type { Transport } from "../../federation/transport.ts";
import type { OwnWord } from "./own_voice.ts";

/** What the fleet needs of the other rooms, and tells them. */
export interface FleetHooks extends OwnWord {
  /** The resources that are meant for this node changed: resolves when they are in force, with a sentence when they cannot be. */
  applyResources(): Promise<string | undefined>;
  /** The roster or what is revoked changed; `revoked` are the statements that revoke, `own` the key identifiers of this node's authorities. */
  trustChanged(revoked: readonly Statement[], own: readonly string[]): void;
  /** This node signs with another intermediate. */
  renewed(): void;
  endpointsChanged(): void;
  /** There is a broker, connected or not. */
  connected(transport: Transport): void;
  /** The trust domain has other roots: those that this node should have in its bundle, or no longer. */
  rootsChanged(roots: readonly RootEntry[]): void;
  /** Nodes have other keys for JWT-SVIDs. */
  keysChanged(): void;
}
