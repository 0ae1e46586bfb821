// A TCP proxy between NATS clients and their server that drops, delays, repeats and reorders whole messages by a seed, or cuts a client off. Understands as much of the protocol as that takes.

import { createConnection, createServer, type Server, type Socket } from "node:net";

export interface Chaos {
  /** Chances of 0 to 1 for each message in either direction. */
  readonly drop: number;
  readonly repeat: number;
  /** A delayed message is overtaken by those behind it. */
  readonly delay: number;
  readonly delayMostMs: number;
}

export const NO_CHAOS: Chaos = { drop: 0, repeat: 0, delay: 0, delayMostMs: 0 };

export interface ChaosProxy {
  readonly url: string;
  chaos: Chaos;
  /** While true nothing passes, and connections are refused: a partition. */
  isCut: boolean;
  readonly counts: { passed: number; dropped: number; repeated: number; delayed: number };
  close(): Promise<void>;
}

export async function openChaosProxy(target: () => number, random: () => number): Promise<ChaosProxy> {
  const counts = { passed: 0, dropped: 0, repeated: 0, delayed: 0 };
  const sockets = new Set<Socket>();
  let cut = false;
  const proxy: { chaos: Chaos } = { chaos: NO_CHAOS };
  const server: Server = createServer((client) => {
    if (cut) return void client.destroy();
    const upstream = createConnection(target(), "127.0.0.1");
    for (const socket of [client, upstream]) {
      sockets.add(socket);
      socket.setNoDelay(true);
      socket.on("error", () => undefined);
      socket.on("close", () => {
        sockets.delete(socket);
        client.destroy();
        upstream.destroy();
      });
    }
    relay(client, upstream, () => proxy.chaos, { counts, random });
    relay(upstream, client, () => proxy.chaos, { counts, random });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as { port: number };
  return {
    url: `nats://127.0.0.1:${port}`,
    counts,
    get chaos() {
      return proxy.chaos;
    },
    set chaos(value) {
      proxy.chaos = value;
    },
    get isCut() {
      return cut;
    },
    set isCut(value) {
      cut = value;
      if (value) for (const socket of sockets) socket.destroy();
    },
    close() {
      for (const socket of sockets) socket.destroy();
      return new Promise((resolve) => server.close(() => resolve()));
    },
  };
}

interface RelayParts {
  readonly counts: ChaosProxy["counts"];
  readonly random: () => number;
}

function relay(from: Socket, to: Socket, chaos: () => Chaos, { counts, random }: RelayParts): void {
  const splitter = new FrameSplitter();
  const send = (bytes: Uint8Array) => {
    if (!to.destroyed) to.write(bytes);
  };
  from.on("data", (chunk: Uint8Array) => {
    for (const { bytes, isMessage } of splitter.push(chunk)) {
      const { drop, repeat, delay, delayMostMs } = chaos();
      // INFO, CONNECT, PING and the like keep the connection alive: what is lost there is the connection, not a message.
      if (!isMessage) send(bytes);
      else if (random() < drop) counts.dropped++;
      else if (random() < delay) {
        counts.delayed++;
        setTimeout(send, random() * delayMostMs, bytes);
      } else {
        counts.passed++;
        send(bytes);
        if (random() < repeat) {
          counts.repeated++;
          send(bytes);
        }
      }
    }
  });
}

interface Frame {
  readonly bytes: Uint8Array;
  readonly isMessage: boolean;
}

/** Cuts a stream of the NATS client protocol into its lines, messages with their payload. */
export class FrameSplitter {
  #rest: Buffer = Buffer.alloc(0);

  push(chunk: Uint8Array): Frame[] {
    this.#rest = this.#rest.length === 0 ? Buffer.from(chunk) : Buffer.concat([this.#rest, chunk]);
    const frames: Frame[] = [];
    for (;;) {
      const end = this.#rest.indexOf("\r\n");
      if (end === -1) return frames;
      const line = this.#rest.toString("latin1", 0, end);
      const isMessage = /^(PUB|HPUB|MSG|HMSG) /i.test(line);
      const payload = isMessage ? Number(line.split(/\s+/).at(-1)) + 2 : 0;
      const length = end + 2 + payload;
      if (this.#rest.length < length) return frames;
      frames.push({ bytes: Uint8Array.from(this.#rest.subarray(0, length)), isMessage });
      this.#rest = this.#rest.subarray(length);
    }
  }
}
