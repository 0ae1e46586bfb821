// The NATS subjects of a trust domain's fleet: one place says who speaks where. A subject is an address, never a proof.

import { hash } from "node:crypto";

export interface FleetSubjects {
  /** Every subject of the fleet begins with it. */
  readonly prefix: string;
  /** Statements that a node has made or learned: it publishes to its own, and hears all. */
  gossip(node: string): string;
  readonly allGossip: string;
  /** A question to one node. */
  ask(node: string): string;
  /** An enrolment by token: asked of the issuing node that made it, by the key identifier that the token has of it. */
  join(issuer: string): string;
  readonly allJoins: string;
  /** What other trust domains may hear: the signed trust bundle. */
  readonly bundle: string;
  /** Where answers to a node's questions come. */
  inbox(node: string): string;
  readonly joinInbox: string;
  /** The name of the broker's key-value store. */
  readonly store: string;
}

/** A trust domain's dots would be levels of the subject; `/` is in no trust domain. */
export function fleetSubjects(trustDomain: string): FleetSubjects {
  const prefix = `riprap.${trustDomain.replaceAll(".", "/")}`;
  return {
    prefix,
    gossip: (node) => `${prefix}.gossip.${node}`,
    allGossip: `${prefix}.gossip.*`,
    ask: (node) => `${prefix}.ask.${node}`,
    join: (issuer) => `${prefix}.join.${issuer}`,
    allJoins: `${prefix}.join.*`,
    bundle: `${prefix}.bundle`,
    inbox: (node) => `_INBOX_${node}`,
    joinInbox: "_INBOX_join",
    // A bucket's name takes neither dots nor slashes.
    store: `riprap_${hash("sha256", trustDomain, "hex").slice(0, 16)}`,
  };
}
