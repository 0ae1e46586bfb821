// Answers the module's questions about peers: chain in, SPIFFE ID and key or a TLS alert out.

import type { BodyOf } from "../abi.ts";
import type { NodeAuthority } from "../ca.ts";
import type { Log } from "./log.ts";

const NO_KEY = new Uint8Array(65);

/** Counts of answers since start. */
export interface PeerCounters {
  accepted: number;
  refused: number;
}

/** VERIFIED for a VERIFY. Says what is wrong to the log, and no more than an alert to the peer. */
export function verifyPeer(
  question: BodyOf<"verify">,
  parts: {
    readonly authority: Pick<NodeAuthority, "verifyPeerChain">;
    readonly log: Log;
    readonly counters: PeerCounters;
  },
): BodyOf<"verified"> {
  const { ask, trustGeneration, chain, flow } = question;
  const answer = parts.authority.verifyPeerChain(chain);
  if (!answer.ok) {
    parts.counters.refused += 1;
    parts.log.warn("a peer was refused", { flow, code: answer.code, reason: answer.message, alert: answer.alert });
    return { ask, trustGeneration, notAfter: 0n, alert: answer.alert, spiffeId: "", publicKey: NO_KEY };
  }
  parts.counters.accepted += 1;
  const notAfter = BigInt(Math.floor(answer.notAfter.getTime() / 1000));
  const spiffeId = answer.spiffeId.toString();
  return { ask, trustGeneration, notAfter, alert: 0, spiffeId, publicKey: answer.publicKey };
}
