// How a node speaks: counts its starts and its messages, and jumps ahead when peers prove that it has spoken later than it remembers.

import type { Signer } from "./curve.ts";
import { type EnvelopeDraft, readProof, sealEnvelope } from "./envelope.ts";
import { U48_MAX } from "./octet.ts";

/** Subjects that one node publishes to: its own few, and one for each peer that it asks. The oldest goes first, with a new epoch. */
const SUBJECTS_MAX = 65_536;

/** Where the count of starts is kept. Must be on disk when `write` returns. */
export interface EpochStore {
  read(): number;
  write(epoch: number): void;
}

export interface VoiceOptions {
  readonly trustDomain: string;
  readonly signer: Signer;
  readonly store: EpochStore;
}

export interface Message {
  readonly subject: string;
  readonly type: string;
  readonly payload: Uint8Array;
  /** The id of the request's envelope. */
  readonly inReplyTo?: string;
}

export class Voice {
  readonly #options: VoiceOptions;
  readonly #sequences = new Map<string, number>();
  #epoch: number;

  /** Begins a new epoch: what was said after the last write of a crashed node can never be said twice. */
  constructor(options: VoiceOptions) {
    this.#options = options;
    this.#epoch = options.store.read();
    this.#begin(this.#epoch + 1);
  }

  get epoch(): number {
    return this.#epoch;
  }

  get publicKey(): Uint8Array {
    return this.#options.signer.publicKey;
  }

  seal(message: Message, now: number): { bytes: Uint8Array; id: string } {
    const { trustDomain, signer } = this.#options;
    const isReply = message.inReplyTo !== undefined;
    const draft: EnvelopeDraft = {
      trustDomain,
      subject: message.subject,
      epoch: this.#epoch,
      sequence: isReply ? 0 : this.#next(message.subject),
      time: now,
      type: message.type,
      inReplyTo: message.inReplyTo ?? "",
      payload: message.payload,
    };
    return sealEnvelope(draft, signer);
  }

  /**
   * A peer shows an envelope of this node's own key from a later epoch: this node's disk is older than what it said. Only its own signature is
   * believed, so that no peer can push it ahead. True when it jumped.
   */
  recover(proof: Uint8Array): boolean {
    const head = readProof(proof);
    const isOwn = head !== undefined && Buffer.compare(head.author, this.publicKey) === 0;
    if (!isOwn || head.trustDomain !== this.#options.trustDomain || head.epoch < this.#epoch) return false;
    const isAhead = head.epoch > this.#epoch || head.sequence > (this.#sequences.get(head.subject) ?? 0);
    if (!isAhead || head.epoch >= U48_MAX) return false;
    this.#begin(head.epoch + 1);
    return true;
  }

  #begin(epoch: number): void {
    this.#options.store.write(epoch);
    this.#epoch = epoch;
    this.#sequences.clear();
  }

  #next(subject: string): number {
    const sequence = (this.#sequences.get(subject) ?? 0) + 1;
    if (sequence === 1 && this.#sequences.size >= SUBJECTS_MAX) this.#begin(this.#epoch + 1);
    this.#sequences.set(subject, sequence);
    return sequence;
  }
}
