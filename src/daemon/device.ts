// One opening of the module's device: frames in and out, numbered and checked. Never decides what a frame means.

import { ACK, type BodyOf, decodeFrames, encodeFrame, type Frame, type FrameName } from "../abi.ts";
import { describeError, RiprapError } from "../error.ts";
import { errnoName } from "./libc.ts";

/** What a session needs of /dev/riprap; tests put a scripted kernel in its place. */
export interface DeviceFile {
  /** The next whole frames; empty after WAKE. Rejects when the device is gone. */
  read(): Promise<Uint8Array>;
  /** Whole frames. Throws when the module refuses them. */
  write(bytes: Uint8Array): void;
  /** One call with its struct, which it may change. Throws RiprapError with the errno's name as code. Absent: it knows no calls. */
  ioctl?(request: number, argument: Uint8Array): void;
  close(): void;
}

/** Opens the device; RiprapError with the errno's name as code. */
export type OpenDevice = (path: string) => DeviceFile;

export type Ack = BodyOf<"ack">;

const ASKS_MAX = 4096; // unanswered questions; the module answers each within its write or soon after

interface Question {
  /** The first frame it is made of: an error of any of them answers it. */
  readonly first: bigint;
  readonly what: string;
  readonly settle: { resolve(ack: Ack): void; reject(thrown: unknown): void };
}

/** Fails with RiprapError `device_lost` when the device ends, `device_refused` when the module says no. */
export class DeviceSession {
  readonly #file: DeviceFile;
  #sent = 0n;
  #received = 0n;
  #stopping = false;
  #ended = false;
  /** By the sequence of the last frame of the question. */
  readonly #questions = new Map<bigint, Question>();

  constructor(file: DeviceFile) {
    this.#file = file;
  }

  /** The number of the last frame that was sent. */
  get sent(): bigint {
    return this.#sent;
  }

  send<N extends FrameName>(type: N, body: BodyOf<N>): void {
    if (this.#ended) throw new RiprapError("device_lost", `Cannot send ${type}: the device is closed`);
    const bytes = encodeFrame(type, body, { flags: 0, sequence: this.#sent + 1n });
    try {
      this.#file.write(bytes);
    } catch (cause) {
      throw new RiprapError("device_refused", `Cannot send ${type} to the module: ${describeError(cause)}`, { cause });
    }
    this.#sent += 1n;
  }

  /** Sends and waits for the module's ACK; `first`: the first frame of a question of several. */
  ask<N extends FrameName>(type: N, body: BodyOf<N>, first = this.#sent + 1n): Promise<Ack> {
    if (this.#questions.size >= ASKS_MAX) {
      return Promise.reject(new RiprapError("device_refused", `Cannot send ${type}: ${ASKS_MAX} questions are open`));
    }
    return new Promise((resolve, reject) => {
      const last = this.#sent + 1n;
      // Before the write: a scripted or fast device may have answered when it returns.
      this.#questions.set(last, { first, what: type, settle: { resolve, reject } });
      try {
        this.send(type, body);
      } catch (thrown) {
        this.#questions.delete(last);
        reject(thrown);
      }
    });
  }

  /** Gives every frame to `handle` in order, until stop() (returns) or the end of the device (throws). */
  async run(handle: (frame: Frame) => void): Promise<void> {
    try {
      for (;;) {
        const bytes = await this.#file.read();
        if (bytes.length === 0) {
          if (this.#stopping) return;
          throw new RiprapError("device_lost", "Cannot read the device: it ended");
        }
        for (const frame of decodeFrames(bytes)) this.#take(frame, handle);
      }
    } finally {
      this.#end();
    }
  }

  /** Ends run() by a WAKE; what the kernel enforces stays in force. */
  stop(): void {
    if (this.#stopping || this.#ended) return;
    this.#stopping = true;
    this.send("wake", {});
  }

  #take(frame: Frame, handle: (frame: Frame) => void): void {
    if (frame.sequence !== this.#received + 1n) {
      const fact = `frame ${frame.sequence} follows frame ${this.#received}`;
      throw new RiprapError("malformed_frame", `Cannot read the device: ${fact}`);
    }
    this.#received = frame.sequence;
    if (frame.type === "ack") this.#answer(frame.body);
    handle(frame);
  }

  #answer(ack: Ack): void {
    for (const [last, { first, what, settle }] of this.#questions) {
      const isOfIt = ack.error === 0 ? ack.sequence === last : ack.sequence >= first && ack.sequence <= last;
      if (!isOfIt) continue;
      this.#questions.delete(last);
      if (ack.error === 0) settle.resolve(ack);
      else settle.reject(new RiprapError("device_refused", `The module refused ${what}: ${errnoName(-ack.error)}`));
      return;
    }
  }

  #end(): void {
    this.#ended = true;
    this.#file.close();
    for (const { what, settle } of this.#questions.values()) {
      settle.reject(new RiprapError("device_lost", `Cannot know the answer to ${what}: the device is closed`));
    }
    this.#questions.clear();
  }
}

const ACK_NAME = new Map<number, string>(Object.entries(ACK).map(([name, what]) => [what, name]));

/** What an ACK speaks of, for the log. */
export function ackName(what: number): string {
  return ACK_NAME.get(what) ?? String(what);
}
