// The wire to NATS, and the one importer of its client: connects, connects again, carries bytes. Believes nothing that comes over it.

import { once } from "node:events";
import { createConnection, type Socket } from "node:net";
import {
  type ConnectionOptions,
  credsAuthenticator,
  ErrorCode,
  type Msg,
  type NatsConnection,
  NatsError,
  nkeyAuthenticator,
  nkeys,
} from "nats";
import { NatsConnectionImpl, setTransportFactory } from "nats/lib/nats-base-client/internal_mod";
import { NodeTransport, nodeResolveHost } from "nats/lib/src/node_transport";
import type { Clock } from "../clock.ts";
import { describeError, RiprapError } from "../error.ts";
import type { NatsProof } from "./nats_proof.ts";
import { RefusedPublications } from "./nats_publication.ts";
import { openKeyedStore } from "./nats_store.ts";
import { Subscriptions } from "./nats_subscription.ts";
import {
  type KeyedStore,
  MESSAGE_BYTES_MAX,
  type Message,
  type Refusal,
  type Subscription,
  type Transport,
  type TransportState,
} from "./transport.ts";

export interface NatsOptions {
  /** `nats://host:port`, or `tls://host:port` where it must speak TLS; tried in an order of chance. */
  readonly servers: readonly string[];
  /** What the server's monitoring shows. */
  readonly name: string;
  readonly proof?: NatsProof;
  /** PEM of the CA that the servers' certificates are held against: with it, a server without TLS is refused. */
  readonly ca?: string;
  /** Where answers to our questions come: `_INBOX_name`, so that a server can keep one node's from another. */
  readonly inboxPrefix?: string;
  readonly clock: Clock;
  readonly random: () => number;
}

const CONNECT_MS = 2000;
const WAIT_FIRST_MS = 50;
/** Each wait is up to twice the last, with as much chance in it as wait: a thousand nodes must not come back as one. */
const WAIT_MOST_MS = 5000;
/** A connection that went through silence twice is dead: half a minute, and a pong costs six bytes. */
const PING_EVERY_MS = 15_000;
/** Bytes handed to the socket and not yet known to be through; beyond, publish refuses. */
const PENDING_BYTES_MAX = 8 * 1024 * 1024;
/** How often it is asked how far the server is. */
const FLUSH_EVERY_BYTES = 256 * 1024;
const JETSTREAM_MS = 3000;
const PORT_DEFAULT = 4222;

/** A new nkey user: the seed is the secret, the public key goes into the server's configuration. */
export function createNkey(): { readonly seed: Uint8Array; readonly publicKey: string } {
  const pair = nkeys.createUser();
  return { seed: pair.getSeed(), publicKey: pair.getPublicKey() };
}

/** The public key of a seed. Throws RiprapError `nkey_invalid`. */
export function nkeyOfSeed(seed: Uint8Array): string {
  try {
    return nkeys.fromSeed(seed).getPublicKey();
  } catch (cause) {
    throw new RiprapError("nkey_invalid", "Cannot use the nkey seed: it is not one that `nk -gen user` would make", {
      cause,
    });
  }
}

/** Begins to connect at once and goes on until closed; does not wait for it. */
export function openNats(options: NatsOptions): Transport {
  return new NatsTransport(options);
}

class NatsTransport implements Transport {
  readonly #options: NatsOptions;
  readonly #stop = new AbortController();
  readonly #subscriptions: Subscriptions<Msg>;
  readonly #publications: RefusedPublications;
  readonly #listeners = new Set<(state: TransportState) => void>();
  readonly #ended: Promise<void>;
  #connection: NatsConnection | undefined;
  #state: TransportState = { phase: "connecting", reason: "it has not been tried yet" };
  /** Bytes since the last known answer of the server, and since the last question. */
  #pending = 0;
  #unasked = 0;

  constructor(options: NatsOptions) {
    this.#options = options;
    this.#subscriptions = new Subscriptions(options);
    this.#publications = new RefusedPublications(options.clock);
    this.#ended = this.#run(this.#stop.signal);
  }

  get state(): TransportState {
    return this.#state;
  }

  onState(listener: (state: TransportState) => void): void {
    this.#listeners.add(listener);
  }

  get refused(): Transport["refused"] {
    if (this.#connection === undefined) return [];
    const listen = this.#subscriptions.refused.map((subject) => ({ verb: "listen", subject }) as const);
    const publish = this.#publications.subjects.map((subject) => ({ verb: "publish", subject }) as const);
    return [...listen, ...publish];
  }

  onRefusal(listener: (refusal: Refusal) => void): void {
    this.#subscriptions.onRefusal(listener);
    this.#publications.onRefusal(listener);
  }

  publish(subject: string, data: Uint8Array): boolean {
    const connection = this.#connection;
    if (connection === undefined || data.length > MESSAGE_BYTES_MAX) return false;
    if (this.#pending + data.length > PENDING_BYTES_MAX) return false;
    try {
      connection.publish(subject, data);
    } catch {
      // It closed under us; the loop hears of it and connects again.
      return false;
    }
    this.#account(connection, data.length + subject.length);
    this.#noteTaken(connection, subject);
    return true;
  }

  subscribe(subject: string, handler: (message: Message) => void, queue?: string): Subscription {
    return this.#subscriptions.add({ subject, queue, handler: (message) => handler(asMessage(message)) });
  }

  async request(subject: string, data: Uint8Array, timeoutMs: number): Promise<Uint8Array> {
    const connection = this.#connection;
    if (connection === undefined) throw notConnected(this.#state);
    try {
      const answer = connection.request(subject, data, { timeout: timeoutMs });
      this.#noteTaken(connection, subject);
      return (await answer).data;
    } catch (thrown) {
      throw explain(thrown, timeoutMs);
    }
  }

  async store(name: string): Promise<KeyedStore | undefined> {
    const connection = this.#connection;
    if (connection?.info?.jetstream !== true) return undefined;
    try {
      const views = connection.jetstream({ timeout: JETSTREAM_MS }).views;
      return await openKeyedStore((options) => views.kv(name, options));
    } catch {
      // No right to it, or no quorum: the fleet lives without.
      return undefined;
    }
  }

  async close(): Promise<void> {
    this.#stop.abort();
    const connection = this.#connection;
    await connection?.close().catch(() => undefined);
    await this.#ended;
  }

  async #run(signal: AbortSignal): Promise<void> {
    let wait = WAIT_FIRST_MS;
    while (!signal.aborted) {
      const tried = await this.#connect(signal);
      if (tried.ok) {
        wait = WAIT_FIRST_MS;
        await this.#serve(tried.connection);
      } else this.#enter({ phase: "connecting", reason: tried.reason });
      if (signal.aborted) break;
      const { clock, random } = this.#options;
      await clock.sleep(wait * (0.5 + random()), signal).catch(() => undefined);
      wait = Math.min(WAIT_MOST_MS, wait * 2);
    }
    this.#enter({ phase: "closed" });
  }

  async #connect(
    signal: AbortSignal,
  ): Promise<{ ok: true; connection: NatsConnection } | { ok: false; reason: string }> {
    try {
      setTransportFactory({ factory: () => new EndingTransport(this.#options), dnsResolveFn: nodeResolveHost });
      const connection = await NatsConnectionImpl.connect(clientOptions(this.#options));
      if (!signal.aborted) return { ok: true, connection };
      await connection.close();
      return { ok: false, reason: "it is closed" };
    } catch (thrown) {
      return { ok: false, reason: sentenceOf(thrown) };
    }
  }

  /** Until the connection ends. */
  async #serve(connection: NatsConnection): Promise<void> {
    this.#connection = connection;
    this.#pending = 0;
    this.#unasked = 0;
    this.#subscriptions.follow(connection);
    void this.#hearRefusals(connection);
    const hasStore = connection.info?.jetstream === true;
    this.#enter({ phase: "connected", server: connection.getServer(), hasStore });
    const ended = await connection.closed();
    this.#connection = undefined;
    this.#subscriptions.follow(undefined);
    const reason = ended instanceof Error ? sentenceOf(ended) : "the server ended the connection";
    this.#enter({ phase: "connecting", reason });
  }

  async #hearRefusals(connection: NatsConnection): Promise<void> {
    for await (const { permissionContext } of connection.status())
      if (permissionContext?.operation === "publish") this.#publications.refused(permissionContext.subject);
  }

  #noteTaken(connection: NatsConnection, subject: string): void {
    this.#publications.published(subject, () => connection.flush()).catch(() => undefined);
  }

  #account(connection: NatsConnection, bytes: number): void {
    this.#pending += bytes;
    this.#unasked += bytes;
    if (this.#unasked < FLUSH_EVERY_BYTES && this.#pending < PENDING_BYTES_MAX / 2) return;
    const asked = this.#pending;
    this.#unasked = 0;
    connection.flush().then(
      () => {
        if (this.#connection === connection) this.#pending = Math.max(0, this.#pending - asked);
      },
      () => undefined,
    );
  }

  #enter(state: TransportState): void {
    this.#state = state;
    for (const listener of this.#listeners) listener(state);
  }
}

/** The client's own connect() keeps the socket of a try that it gave up: a server that takes connections and says nothing would have one of each try. */
class EndingTransport extends NodeTransport {
  readonly #clock: Clock;
  readonly #plain: ReadonlySet<string>;

  constructor({ clock, servers }: Pick<NatsOptions, "clock" | "servers">) {
    super();
    this.#clock = clock;
    this.#plain = plainPlaces(servers);
  }

  override async connect(...[place, options]: Parameters<NodeTransport["connect"]>): Promise<void> {
    // The client forgets by which scheme a server was named.
    const isPlain = this.#plain.has(`${place.tlsName || place.hostname}:${place.port}`);
    const done = new AbortController();
    const end = () => this.socket.destroy();
    this.#clock.sleep(CONNECT_MS, done.signal).then(end, () => undefined);
    try {
      await super.connect(place, isPlain ? options : { ...options, tls: options.tls ?? {} });
    } finally {
      done.abort();
    }
  }

  override async dial({ hostname, port }: Parameters<NodeTransport["dial"]>[0]): Promise<Socket> {
    this.socket = createConnection(port, hostname);
    this.socket.setNoDelay(true);
    await once(this.socket, "connect");
    return this.socket;
  }
}

/** Where a server may speak without TLS, as host:port: named `nats://`, and not `tls://` as well. Any other scheme is none of ours. */
function plainPlaces(servers: readonly string[]): ReadonlySet<string> {
  const places = Map.groupBy(servers, placeOf);
  return new Set([...places].filter(([, named]) => named.every((url) => url.startsWith("nats://"))).map(([at]) => at));
}

/** As the client reads it. */
function placeOf(server: string): string {
  const place = server.replace(/^\w+:\/\//, "");
  const port = /:(\d+)$/.exec(place)?.[1] ?? String(PORT_DEFAULT);
  const { hostname } = new URL(`http://${place}`);
  return `${hostname.replace(/^\[|\]$/g, "")}:${Number(port)}`;
}

function clientOptions({ servers, name, proof, ca, inboxPrefix }: NatsOptions): ConnectionOptions {
  return {
    servers: [...servers],
    name,
    // Ours is the one loop that reconnects: it takes fresh credentials, and keeps nothing of what was to be sent.
    reconnect: false,
    timeout: CONNECT_MS,
    pingInterval: PING_EVERY_MS,
    maxPingOut: 2,
    noEcho: true,
    // What a broker says of other brokers is not believed.
    ignoreClusterUpdates: true,
    noAsyncTraces: true,
    ...(inboxPrefix === undefined ? {} : { inboxPrefix }),
    ...(ca === undefined ? {} : { tls: { ca } }),
    ...(proof === undefined ? {} : { authenticator: authenticatorOf(proof) }),
  };
}

function authenticatorOf(proof: NatsProof) {
  return proof.kind === "nkey" ? nkeyAuthenticator(proof.seed) : credsAuthenticator(proof.text);
}

/** Of a node, of who joins, and of the client library's own. Whoever asks names it, and we answer with our own rights: nowhere else. */
const INBOX = /^_INBOX[._]/;

function asMessage(message: Msg): Message {
  return {
    subject: message.subject,
    data: message.data,
    respond: (data) => {
      if (data.length <= MESSAGE_BYTES_MAX && INBOX.test(message.reply ?? "")) message.respond(data);
    },
  };
}

function notConnected(state: TransportState): RiprapError {
  const reason = state.phase === "connecting" ? state.reason : "it is closed";
  return new RiprapError("nats_not_connected", `Cannot ask over NATS: there is no connection (${reason})`);
}

function explain(thrown: unknown, timeoutMs: number): RiprapError {
  const code = thrown instanceof NatsError ? thrown.code : "";
  const cause = { cause: thrown };
  if (code === ErrorCode.NoResponders)
    return new RiprapError("nats_nobody_answers", "Cannot ask over NATS: no node that answers is connected", cause);
  if (code === ErrorCode.Timeout)
    return new RiprapError("nats_no_answer", `Cannot ask over NATS: no answer came in ${timeoutMs} ms`, cause);
  return new RiprapError("nats_not_connected", `Cannot ask over NATS: ${sentenceOf(thrown)}`, cause);
}

const SENTENCES: Readonly<Record<string, string>> = {
  [ErrorCode.ConnectionRefused]: "no server listens there",
  [ErrorCode.ConnectionTimeout]: "no server answers in time",
  [ErrorCode.Timeout]: "no server answers in time",
  [ErrorCode.AuthorizationViolation]: "the server does not take this node's nkey or credentials",
  [ErrorCode.BadAuthentication]: "the server asks for an nkey or credentials, and none are configured",
  [ErrorCode.ServerOptionNotAvailable]:
    "the server speaks no TLS, which natsCa or its tls:// URL asks for: set up its tls block, or name it nats:// and without natsCa",
  [ErrorCode.Tls]: "the server's certificate was refused",
};

function sentenceOf(thrown: unknown): string {
  const code = thrown instanceof NatsError ? thrown.code : "";
  return SENTENCES[code] ?? describeError(thrown);
}
