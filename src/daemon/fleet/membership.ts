// What this node is in its fleet: in no fleet, a member, or displaced, when the roster has its name no longer under its key. Says nothing to anyone.

import type { Signer } from "../../federation/curve.ts";
import { groupsOf } from "../../federation/node_group.ts";
import { findNode, type IssuedPath, type MayIssue, mayIssue, type RosterState } from "../../federation/roster.ts";
import { type FleetNode, GROUP_DEFAULT } from "../../fleet.ts";
import type { Log } from "../log.ts";
import type { FleetSetting } from "./setting.ts";

export interface MembershipParts {
  readonly state: RosterState;
  readonly nodeName: string;
  readonly signer: Pick<Signer, "publicKey">;
  readonly setting: Pick<FleetSetting, "group" | "keepGroup">;
  readonly log: Pick<Log, "error" | "warn">;
}

const REMEDY =
  "If that was meant, stop the daemon here. Else find out which issuing node said so (riprap fleet log), and join again: stop the daemon, move its state directory away, and use a token of riprap token create, with --replace for this name.";

export class Membership {
  readonly #parts: MembershipParts;
  readonly #key: string;
  /** The group of this node's last own entry; undefined when it never had one. */
  #group: string | undefined;
  #isTold = false;

  constructor(parts: MembershipParts) {
    this.#parts = parts;
    this.#key = Buffer.from(parts.signer.publicKey).toString("hex");
    this.#group = parts.setting.group();
  }

  /** Of this node, when the roster has it under its own key. */
  get self(): FleetNode | undefined {
    const node = this.#named();
    return node?.key === this.#key ? node : undefined;
  }

  /** Whether this node knows of a fleet: it has heard of a node, or was one of its nodes itself. */
  get hasFleet(): boolean {
    return this.#group !== undefined || hasNodes(this.#parts.state);
  }

  /** Why no other node hears this one, and what to do; undefined while it is a member, and where there is no fleet. */
  get displacement(): string | undefined {
    if (this.self !== undefined || !this.hasFleet) return undefined;
    const { nodeName } = this.#parts;
    const other = this.#named();
    const fact =
      other === undefined
        ? `The fleet's roster has no entry of ${nodeName} any more`
        : `The fleet's roster has another key under the name ${nodeName} (statement ${other.statement.slice(0, 16)})`;
    return `${fact}: no other node hears this one, and it goes on by the rules and revocations that it knows. ${REMEDY}`;
  }

  /** By which the fleet's rules are chosen: those of its entry, or while it is displaced of its name's, or of its last own. */
  get place(): { readonly name: string; readonly groups: ReadonlySet<string> } | undefined {
    if (!this.hasFleet) return undefined;
    const { state, nodeName: name } = this.#parts;
    const group = this.#named()?.group ?? this.#group ?? GROUP_DEFAULT;
    return { name, groups: groupsOf(state, { name, group }) };
  }

  /** Whether the node that signed a path may. Before this node knows of any fleet, the chain alone counts. */
  judgePath(path: IssuedPath): MayIssue {
    return this.hasFleet ? mayIssue(this.#parts.state, path) : { ok: true, node: "" };
  }

  /** At the start, and whenever the roster changed: notes what this node goes on by, and tells a person once when its name is not its own. Never throws. */
  note(): void {
    const { self, displacement } = this;
    if (self !== undefined && self.group !== this.#group) this.#keepGroup(self.group);
    if (displacement !== undefined && !this.#isTold)
      this.#parts.log.error("this node's name is no longer this node's in the fleet's roster", {
        reason: displacement,
      });
    this.#isTold = displacement !== undefined;
  }

  #keepGroup(group: string): void {
    this.#group = group;
    try {
      this.#parts.setting.keepGroup(group);
    } catch (thrown) {
      this.#parts.log.warn("the group of this node could not be kept", { error: String(thrown) });
    }
  }

  #named(): FleetNode | undefined {
    return findNode(this.#parts.state, this.#parts.nodeName);
  }
}

function hasNodes({ standing }: RosterState): boolean {
  for (const _ of standing.grants("node")) return true;
  return false;
}
