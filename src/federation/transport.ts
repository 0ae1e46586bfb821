// What the fleet needs of whatever carries its messages: publish, subscribe, ask, and where there is one a store by key. Trusts nothing that it carries.

/** One message as it came. */
export interface Message {
  readonly subject: string;
  readonly data: Uint8Array;
  /** Answers the one who asked, where answers go; nothing happens when nobody did, or somebody wants it elsewhere. */
  respond(data: Uint8Array): void;
}

export interface Subscription {
  close(): void;
}

/** `publish` stands for questions too. */
export interface Refusal {
  readonly verb: "listen" | "publish";
  readonly subject: string;
  readonly isRefused: boolean;
}

export type TransportState =
  | { readonly phase: "connecting"; readonly reason: string }
  | { readonly phase: "connected"; readonly server: string; readonly hasStore: boolean }
  | { readonly phase: "closed" };

/** A store of the newest value by key, kept by the broker: a meeting point, believed no more than a message. */
export interface KeyedStore {
  /** False when it was not taken. */
  put(key: string, value: Uint8Array): Promise<boolean>;
  /** Every value that is there now, each once. */
  list(signal: AbortSignal): AsyncIterable<Uint8Array>;
}

export interface Transport {
  readonly state: TransportState;
  /** False when it could not be sent now: not connected, too large, or too much is on the way. Nothing is kept for later. */
  publish(subject: string, data: Uint8Array): boolean;
  /** Stands until closed, over every reconnect. With `queue`, one member of the queue gets each message. */
  subscribe(subject: string, handler: (message: Message) => void, queue?: string): Subscription;
  /** The first answer. Throws RiprapError `nats_not_connected`, `nats_nobody_answers`, `nats_no_answer`. */
  request(subject: string, data: Uint8Array, timeoutMs: number): Promise<Uint8Array>;
  /** Undefined where the server keeps none, or lets us not. */
  store(name: string): Promise<KeyedStore | undefined>;
  /** Told of every change of `state`. */
  onState(listener: (state: TransportState) => void): void;
  /** What the broker does not let us do: a subscription is tried again, a publication with its next message. */
  readonly refused: readonly Pick<Refusal, "verb" | "subject">[];
  /** Told when one of them begins or ends to be refused. */
  onRefusal(listener: (refusal: Refusal) => void): void;
  close(): Promise<void>;
}

/** What one message may hold at most: below the megabyte that a NATS server takes unless told otherwise. */
export const MESSAGE_BYTES_MAX = 768 * 1024;
