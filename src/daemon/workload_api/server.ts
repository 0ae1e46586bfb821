// gRPC on connections that are handed to it: frames in, frames out, each call with the caller of its connection. The one importer of gRPC; decides nothing.

import type { Socket } from "node:net";
import {
  Server,
  ServerCredentials,
  type ServerDuplexStream,
  type ServerUnaryCall,
  type ServerWritableStream,
  type ServiceDefinition,
  type sendUnaryData,
  type UntypedServiceImplementation,
} from "@grpc/grpc-js";
import type { Caller } from "./caller.ts";
import { CallRefusal, STATUS } from "./refusal.ts";

/** A JWT-SVID to be validated is the largest thing that a caller sends: a few KiB. */
const REQUEST_BYTES_MAX = 65_536;
/** Streams of one connection; a client has one of each kind. */
const STREAMS_MAX = 128;

export interface CallHead {
  readonly caller: Caller;
  /** Values of a metadata key, in their order. */
  metadata(key: string): readonly string[];
}

export interface Call extends CallHead {
  readonly request: Uint8Array;
}

/** The side of a call on which the server speaks. */
export interface Outbound extends CallHead {
  /** Aborted when the client has gone or the stream was ended. */
  readonly signal: AbortSignal;
  /** Each message is the whole state: of those that a slow reader has not taken, it gets the last alone. */
  send(message: Uint8Array): void;
  end(refusal: CallRefusal): void;
}

export interface StreamCall extends Outbound, Call {}

/** Both sides speak. It ends without a refusal when its method's promise resolves. */
export interface BidiCall extends Outbound {
  /** One at a time, as they are asked for; it ends when the client has said all. */
  readonly requests: AsyncIterable<Uint8Array>;
  /** Would a message have to wait for the client to read? */
  readonly isBlocked: boolean;
  /** Resolves when what was sent has left: for messages of which each counts. */
  drained(): Promise<void>;
}

/** Throws CallRefusal for what the caller may know; anything else is our own failure. */
export type Method =
  | { readonly kind: "unary"; answer(call: Call): Promise<Uint8Array> }
  | { readonly kind: "stream"; open(call: StreamCall): Promise<void> }
  | { readonly kind: "bidi"; converse(call: BidiCall): Promise<void> };

export interface GrpcServer {
  /** Speaks on this connection in the name of its caller. */
  take(socket: Socket, caller: Caller): void;
  close(): void;
}

export interface Service {
  /** `/Service/` before a method's name. */
  readonly prefix: string;
  readonly methods: Readonly<Record<string, Method>>;
}

export interface GrpcOptions {
  readonly services: readonly Service[];
  /** Told of what is no CallRefusal. */
  onBug(thrown: unknown): void;
}

export function createGrpcServer(options: GrpcOptions): GrpcServer {
  const server = new Server({
    "grpc.max_receive_message_length": REQUEST_BYTES_MAX,
    "grpc.max_concurrent_streams": STREAMS_MAX,
    // Not for diagnosis from outside: nobody asks for it here.
    "grpc.enable_channelz": 0,
  });
  const callers = new Map<string, Caller>();
  for (const service of options.services)
    server.addService(definitionOf(service), implementationOf(service, { callers, options }));
  const injector = server.createConnectionInjector(ServerCredentials.createInsecure());
  let count = 0;
  return {
    take(socket, caller) {
      const name = `caller-${++count}`;
      callers.set(name, caller);
      // What gRPC calls the peer: a Unix connection has no address of its own, so this is where a call learns whose it is.
      Object.defineProperties(socket, { remoteAddress: { value: name }, remotePort: { value: undefined } });
      socket.once("close", () => callers.delete(name));
      injector.injectConnection(socket);
    },
    close() {
      server.forceShutdown();
    },
  };
}

function definitionOf({ prefix, methods }: Service): ServiceDefinition {
  // Messages are bytes to gRPC: message.ts reads and writes them.
  const raw = (value: Uint8Array) =>
    Buffer.isBuffer(value) ? value : Buffer.from(value.buffer, value.byteOffset, value.byteLength);
  const define = ([name, { kind }]: [string, Method]) => [
    name,
    {
      path: `${prefix}${name}`,
      requestStream: kind === "bidi",
      responseStream: kind !== "unary",
      requestSerialize: raw,
      requestDeserialize: (value: Buffer) => value,
      responseSerialize: raw,
      responseDeserialize: (value: Buffer) => value,
    },
  ];
  return Object.fromEntries(Object.entries(methods).map(define));
}

type UnaryCall = ServerUnaryCall<Buffer, Uint8Array>;
type WritableCall = ServerWritableStream<Buffer, Uint8Array>;
type DuplexCall = ServerDuplexStream<Buffer, Uint8Array>;
type Callers = ReadonlyMap<string, Caller>;

interface Answering {
  readonly callers: Callers;
  readonly options: GrpcOptions;
}

function implementationOf({ methods }: Service, answering: Answering): UntypedServiceImplementation {
  return Object.fromEntries(Object.entries(methods).map(([name, method]) => [name, implement(method, answering)]));
}

function implement(method: Method, { callers, options }: Answering): UntypedServiceImplementation[string] {
  switch (method.kind) {
    case "unary":
      return (call: UnaryCall, done: sendUnaryData<Uint8Array>) => {
        Promise.resolve()
          .then(() => method.answer({ ...headOf(call, callers), request: call.request }))
          .then(
            (answer) => done(null, answer),
            (thrown) => done(statusOf(thrown, options)),
          );
      };
    case "stream":
      return (call: WritableCall) => {
        const stream = new Stream(call);
        Promise.resolve()
          .then(() => method.open({ ...stream.of(headOf(call, callers)), request: call.request }))
          .catch((thrown) => stream.fail(statusOf(thrown, options)));
      };
    case "bidi":
      return (call: DuplexCall) => {
        const stream = new Stream(call);
        Promise.resolve()
          .then(() =>
            method.converse({
              ...stream.of(headOf(call, callers)),
              requests: requestsOf(call),
              get isBlocked() {
                return stream.isBlocked;
              },
              drained: () => stream.drained(),
            }),
          )
          .then(
            () => stream.finish(),
            (thrown) => stream.fail(statusOf(thrown, options)),
          );
      };
  }
}

function headOf(call: UnaryCall | WritableCall | DuplexCall, callers: Callers): CallHead {
  const caller = callers.get(call.getPeer());
  if (caller === undefined) throw new CallRefusal("unavailable", "the connection has ended");
  return { caller, metadata: (key) => call.metadata.get(key).map(String) };
}

async function* requestsOf(call: DuplexCall): AsyncGenerator<Uint8Array> {
  try {
    // Not destroyed by who stops reading: the status has yet to be sent.
    for await (const request of call.iterator({ destroyOnReturn: false })) yield request as Buffer;
  } catch (thrown) {
    // A client that goes away in the middle has said all that it will say.
    if (!call.cancelled && !call.destroyed) throw thrown;
  }
}

interface Status {
  readonly code: number;
  readonly details: string;
}

function statusOf(thrown: unknown, { onBug }: GrpcOptions): Status {
  if (thrown instanceof CallRefusal) return { code: STATUS[thrown.status], details: thrown.message };
  onBug(thrown);
  return { code: STATUS.internal, details: "the daemon failed; its log says why" };
}

/** The writing side of a server stream: never more than one message in memory beside what gRPC holds. */
class Stream {
  readonly #call: WritableCall | DuplexCall;
  readonly #ended = new AbortController();
  #isBlocked = false;
  #waiting: Uint8Array | undefined;
  #onDrain: () => void = () => {};

  constructor(call: WritableCall | DuplexCall) {
    this.#call = call;
    call.on("cancelled", () => this.#stop());
    call.on("close", () => this.#stop());
    // What goes wrong with a connection ends it, which "close" says.
    call.on("error", () => this.#stop());
    call.on("drain", () => {
      this.#isBlocked = false;
      const message = this.#waiting;
      this.#waiting = undefined;
      if (message !== undefined) this.#send(message);
      if (!this.#isBlocked) this.#onDrain();
    });
  }

  of(head: CallHead): Outbound {
    return {
      ...head,
      signal: this.#ended.signal,
      send: (message) => this.#send(message),
      end: ({ status, message }) => this.fail({ code: STATUS[status], details: message }),
    };
  }

  get isBlocked(): boolean {
    return this.#isBlocked && !this.#ended.signal.aborted;
  }

  async drained(): Promise<void> {
    if (!this.#isBlocked || this.#ended.signal.aborted) return;
    await new Promise<void>((resolve) => {
      this.#onDrain = resolve;
    });
  }

  fail(status: Status): void {
    if (this.#ended.signal.aborted) return;
    this.#waiting = undefined;
    // How grpc-js ends a server stream with a status.
    this.#call.emit("error", status);
    this.#stop();
  }

  finish(): void {
    if (this.#ended.signal.aborted) return;
    if (this.#waiting !== undefined) this.#call.write(this.#waiting);
    this.#call.end();
    this.#stop();
  }

  #send(message: Uint8Array): void {
    if (this.#ended.signal.aborted) return;
    if (this.#isBlocked) this.#waiting = message;
    else this.#isBlocked = !this.#call.write(message);
  }

  #stop(): void {
    if (!this.#ended.signal.aborted) this.#ended.abort();
    this.#onDrain();
  }
}
