// Joins a trust domain by a token: asks the issuing node over the broker, believes only what the token's root signed, and installs the answer.

import { createEnrolmentRequest, installEnrolment, openNodeKeys, publicKeysOf } from "../../ca.ts";
import type { Clock } from "../../clock.ts";
import { RiprapError } from "../../error.ts";
import { bearerFingerprint } from "../../federation/admission.ts";
import { keyIdOf } from "../../federation/curve.ts";
import { encodeEnrolmentRequest, parseEnrolmentGrant } from "../../federation/enrolment.ts";
import { FleetState } from "../../federation/fleet_state.ts";
import { openStatementStore } from "../../federation/fleet_store.ts";
import { type JoinGrant, type JoinReply, startJoin } from "../../federation/join.ts";
import { openNats } from "../../federation/nats.ts";
import { readNatsProof } from "../../federation/nats_proof.ts";
import { fleetSubjects } from "../../federation/subject.ts";
import { parseToken, type Token } from "../../federation/token.ts";
import type { Transport } from "../../federation/transport.ts";
import { patiently } from "../../patience.ts";
import { toPem } from "../../pem.ts";
import { openStore, storePath } from "../../store.ts";
import { VERSION } from "../../version.ts";
import type { DaemonConfig } from "../config.ts";
import { readBrokerCa } from "./broker_ca.ts";
import { openFleetKey } from "./member.ts";
import { caOption, openNatsClient, readProof } from "./open.ts";
import { openFleetSetting } from "./setting.ts";

export interface JoinOptions {
  readonly config: Pick<
    DaemonConfig,
    "stateDir" | "keyCustody" | "natsServers" | "natsCredentials" | "natsCa" | "nodeAddresses"
  >;
  readonly token: string;
  readonly nodeName: string;
  readonly clock: Clock;
  readonly random: () => number;
  readonly signal: AbortSignal;
  /** Told what is being waited for, when it takes longer than a moment. */
  onProgress(sentence: string): void;
}

export interface Joined {
  readonly trustDomain: string;
  readonly nodeName: string;
  readonly rootFingerprint: string;
  readonly expiresAt: string;
  readonly servers: readonly string[];
  readonly milliseconds: number;
}

const SILENCE: ReadonlySet<string> = new Set(["nats_nobody_answers", "nats_no_answer", "nats_not_connected"]);
const CONNECT_MS = 10_000;
/** An issuing node to which hundreds come at once answers one after another. */
const ANSWER_MS = 30_000;
const NOBODY_MS = 3000;
const NOBODY_AGAIN_MS = 100;
/** A person's word may take longer than a restart of the node where he says it. */
const ABSENCE_MS = 120_000;
/** Many come at once. */
const BUSY_AGAIN_MS = 2000;
/** A person is asked; he may be at lunch, or come tomorrow. */
const ASK_AGAIN_LEAST_MS = 2000;
const ASK_AGAIN_MOST_MS = 30_000;
/** Of the time that was waited: ten minutes until the longest pause. */
const ASK_AGAIN_SHARE = 1 / 20;

/**
 * Throws RiprapError: what parseToken throws, `ca_exists`, `nats_not_connected`, `join_issuer_absent` or `token_expired` when nobody answers, a code of
 * JOIN_REFUSALS when the issuing node refuses, or what installEnrolment throws.
 */
export async function joinFleet(options: JoinOptions): Promise<Joined> {
  const { config, clock, nodeName } = options;
  const begun = performance.now();
  const token = parseToken(options.token);
  const { stateDir, keyCustody: custody } = config;
  const made = await createEnrolmentRequest({ stateDir, trustDomain: token.trustDomain, nodeName, clock, custody });
  const transport = await connectToJoin(token, options);
  try {
    const asking = { ...options, enrolment: encodeEnrolmentRequest(made), transport };
    const grant = await askUntilDecided(token, asking).catch((thrown: unknown) => {
      throw explainSilence(thrown, token, clock.now());
    });
    return await install(token, grant, { ...options, begun });
  } finally {
    await transport.close();
  }
}

/** Whether a token's time is over is the issuing node's to say, which keeps the event; this machine's clock counts where nobody says anything. */
function explainSilence(thrown: unknown, { expiresAt }: Token, now: number): unknown {
  const isSilence = thrown instanceof RiprapError && SILENCE.has(thrown.code);
  if (!isSilence) return thrown;
  if (now <= expiresAt) {
    const fact = "the issuing node that made the token is not there, and no other may answer: a token is good once";
    const remedy = "start that node, or make a new token on another issuing node with riprap token create";
    return new RiprapError("join_issuer_absent", `Cannot join: ${fact}; ${remedy}`, { cause: thrown });
  }
  const fact = `it ended at ${new Date(expiresAt).toISOString()} by this machine's clock, and no issuing node answers`;
  const remedy = "make a new one, or set the clock";
  return new RiprapError("token_expired", `Cannot use the token: ${fact}; ${remedy}`, { cause: thrown });
}

/** What this machine's configuration says goes first. Without: nobody knows this node's nkey yet, and it comes with what the token has for it, if anything. */
async function connectToJoin(
  token: Token,
  { config, clock, random, signal, onProgress }: JoinOptions,
): Promise<Transport> {
  const [servers, told] =
    config.natsServers.length > 0 ? [config.natsServers, ""] : [token.servers, toPem(token.brokerCa)];
  const ca = config.natsCa === "" ? told : readBrokerCa(config.natsCa);
  const { joinInbox } = fleetSubjects(token.trustDomain);
  const proof =
    config.natsCredentials === "" ? readNatsProof(Buffer.from(token.credentials)) : readProof(config.natsCredentials);
  const transport = openNats({
    ...{ servers, name: "join", inboxPrefix: joinInbox, clock, random },
    ...caOption(ca),
    ...(proof === undefined ? {} : { proof }),
  });
  const limit = AbortSignal.any([signal, AbortSignal.timeout(CONNECT_MS)]);
  const connected = new Promise<void>((resolve) => {
    transport.onState(({ phase }) => phase === "connected" && resolve());
    limit.addEventListener("abort", () => resolve(), { once: true });
    if (transport.state.phase === "connected" || limit.aborted) resolve();
  });
  await patiently(connected, () => {
    const fact = `no connection to ${servers.join(", ")} yet: ${reasonOf(transport)}`;
    onProgress(`${fact}; trying for ${CONNECT_MS / 1000} s`);
  });
  const { state } = transport;
  if (state.phase === "connected") return transport;
  const reason = signal.aborted ? "interrupted" : reasonOf(transport);
  await transport.close();
  const remedy = "check the address in the token and natsServers, natsCredentials, natsCa in the configuration";
  throw new RiprapError("nats_not_connected", `Cannot reach the fleet at ${servers.join(", ")}: ${reason}; ${remedy}`);
}

function reasonOf({ state }: Transport): string {
  return state.phase === "connecting" ? state.reason : "it is closed";
}

interface Asking extends JoinOptions {
  readonly enrolment: string;
  readonly transport: Transport;
}

async function askUntilDecided(token: Token, asking: Asking): Promise<JoinGrant> {
  const { config, clock, nodeName, enrolment, signal, onProgress } = asking;
  const keys = openNodeKeys(config.stateDir);
  const signer = openFleetKey(keys);
  const { nkey } = await openNatsClient(config, keys);
  const subject = fleetSubjects(token.trustDomain).join(keyIdOf(token.issuerKey));
  const ask = (patienceMs: number) => {
    const start = () => startJoin(token, { time: clock.now(), nodeName, enrolment, nkey, version: VERSION }, signer);
    const asked = askUntilAnswered(start, asking, { subject, until: clock.now() + patienceMs });
    return patiently(asked, () => onProgress("waiting for the issuing node that made the token"));
  };
  const begun = clock.now();
  for (let reply = await ask(NOBODY_MS), told = false; ; reply = await ask(ABSENCE_MS)) {
    if (reply.outcome === "granted") return reply.grant;
    if (reply.outcome === "refused") throw refusalOf(reply);
    if (!told) {
      const fingerprint = bearerFingerprint(Buffer.from(signer.publicKey).toString("hex"));
      onProgress(`waiting for riprap node approve ${nodeName} on the issuing node; this machine is ${fingerprint}`);
      told = true;
    }
    await clock.sleep(pauseAfter(clock.now() - begun), signal);
  }
}

/** How long a machine that waits for a person's word is silent until it asks again, milliseconds. */
export function pauseAfter(waitedMs: number): number {
  return Math.min(ASK_AGAIN_MOST_MS, Math.max(ASK_AGAIN_LEAST_MS, waitedMs * ASK_AGAIN_SHARE));
}

/** With a request of its own each time: none is answered twice. */
async function askUntilAnswered(
  start: () => ReturnType<typeof startJoin>,
  asking: Asking,
  { subject, until }: { readonly subject: string; readonly until: number },
): Promise<ReturnType<ReturnType<typeof startJoin>["finish"]>> {
  const { clock, random, signal } = asking;
  for (const end = clock.now() + ABSENCE_MS; ; ) {
    const join = start();
    const answer = await askOnce(asking, { subject, bytes: join.bytes, isLast: clock.now() > until });
    if (answer === undefined) continue;
    const reply = join.finish(answer);
    const isBusy = reply.outcome === "refused" && reply.code === "join_busy";
    if (!isBusy || clock.now() > end) return reply;
    await clock.sleep(BUSY_AGAIN_MS * (0.5 + random()), signal);
  }
}

/** Undefined: nobody is there now. An issuing node that began just now is not known to every server of a cluster at once. */
async function askOnce(
  { transport, clock, signal }: Asking,
  { subject, bytes, isLast }: { readonly subject: string; readonly bytes: Uint8Array; readonly isLast: boolean },
): Promise<Uint8Array | undefined> {
  try {
    return await transport.request(subject, bytes, ANSWER_MS);
  } catch (thrown) {
    if (isLast || !(thrown instanceof RiprapError) || !SILENCE.has(thrown.code)) throw thrown;
    await clock.sleep(NOBODY_AGAIN_MS, signal);
    return undefined;
  }
}

function refusalOf(reply: JoinReply & { readonly outcome: "refused"; readonly isProven: boolean }): RiprapError {
  const { code, message, isProven } = reply;
  if (isProven) return new RiprapError(code, message);
  const fact = `somebody on the broker answers "${code}", without proof that it is the issuing node`;
  return new RiprapError(code, `Cannot join: ${fact}; make a new token, or ask for the issuing node's log`);
}

/** The root is the token's; all else is believed for what that root signed. */
async function install(
  token: Token,
  grant: JoinGrant,
  options: JoinOptions & { readonly begun: number },
): Promise<Joined> {
  const { config, clock } = options;
  const { stateDir } = config;
  const enrolment = parseEnrolmentGrant(grant.enrolment);
  const installed = await installEnrolment({
    stateDir,
    grant: enrolment,
    clock,
    rootFingerprint: token.rootFingerprint,
  });
  const servers = grant.servers.length > 0 ? grant.servers : token.servers;
  const store = openStore(storePath(stateDir));
  try {
    const { trustDomain } = token;
    const roots = publicKeysOf(enrolment.roots);
    const state = new FleetState({ trustDomain, roots, store: openStatementStore(store) });
    state.applyAll(grant.statements, clock.now());
    openFleetSetting(store).keepBroker({ servers, ca: toPem(token.brokerCa) });
  } finally {
    store.close();
  }
  return {
    trustDomain: installed.trustDomain,
    nodeName: installed.nodeName,
    rootFingerprint: installed.rootFingerprint,
    expiresAt: installed.expiresAt.toISOString(),
    servers,
    milliseconds: Math.round(performance.now() - options.begun),
  };
}
