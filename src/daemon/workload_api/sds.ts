// Envoy's secret discovery service, v3: StreamSecrets, DeltaSecrets and FetchSecrets, for callers attested as those of the Workload API are.

import type { Log } from "../log.ts";
import type { Feed } from "./feed.ts";
import type { LiveHandle } from "./live.ts";
import { CallRefusal } from "./refusal.ts";
import { DeltaFeed, type Heard, StateFeed } from "./sds_feed.ts";
import { type DeltaRequest, type DiscoveryRequest, parseDeltaRequest, parseDiscoveryRequest } from "./sds_message.ts";
import type { BidiCall, Call, CallHead, Service } from "./server.ts";
import { countCall, refusalOf, type ServiceParts } from "./service.ts";

export const SDS_SERVICE = "envoy.service.secret.v3.SecretDiscoveryService";
/** An Envoy's complaint, in the log. */
const COMPLAINT_CHARS_MAX = 300;

export interface SdsCounters {
  /** Answers that an Envoy did not take. */
  rejected: number;
}

export interface SdsParts extends ServiceParts {
  readonly log: Log;
  readonly sds: SdsCounters;
}

/** Without the security header: Envoy sends none, and a browser cannot open a Unix socket. */
export function createSds(parts: SdsParts): Service {
  return {
    prefix: `/${SDS_SERVICE}/`,
    methods: {
      StreamSecrets: {
        kind: "bidi",
        converse(call) {
          const feed = new StateFeed(parts);
          return converse(call, { parts, feed, hear: (message) => feed.hear(parseRequest(message)) });
        },
      },
      DeltaSecrets: {
        kind: "bidi",
        converse(call) {
          const feed = new DeltaFeed(parts, () => call.isBlocked);
          return converse(call, { parts, feed, hear: (message) => feed.hear(parseDelta(message)) });
        },
      },
      FetchSecrets: { kind: "unary", answer: (call) => fetchSecrets(call, parts) },
    },
  };
}

interface Conversation {
  readonly parts: SdsParts;
  readonly feed: Feed;
  hear(message: Uint8Array): Heard;
}

/** It asks for no security header, so that it is for the socket alone that no browser and no proxy can be made to open. */
function requireLocal({ caller }: CallHead): void {
  if (caller.transport === "unix") return;
  throw new CallRefusal("unimplemented", "secrets are served on the Unix socket alone");
}

async function converse(call: BidiCall, { parts, feed, hear }: Conversation): Promise<void> {
  requireLocal(call);
  const release = countCall(call, parts);
  call.signal.addEventListener("abort", release);
  let handle: LiveHandle | undefined;
  try {
    for await (const message of call.requests) {
      // The first is paid for with the call itself.
      if (handle !== undefined) countCall(call, parts)();
      const heard = hear(message);
      note(heard, call, parts);
      if (handle === undefined) handle = await parts.live.open(call, feed);
      else if (heard.about === "subscription") await handle.judge();
      // What could not be said while the client did not read is said when it does.
      if (call.isBlocked) void call.drained().then(handle.judge);
    }
  } catch (thrown) {
    throw refusalOf(thrown, parts);
  } finally {
    release();
  }
}

function note(heard: Heard, { caller }: BidiCall, { log, sds }: SdsParts): void {
  if (heard.about !== "not taken") return;
  sds.rejected += 1;
  log.warn("an Envoy did not take its secrets", { pid: caller.pid, error: heard.error.slice(0, COMPLAINT_CHARS_MAX) });
}

async function fetchSecrets(call: Call, parts: SdsParts): Promise<Uint8Array> {
  requireLocal(call);
  const release = countCall(call, parts);
  try {
    const feed = new StateFeed(parts);
    feed.hear(parseRequest(call.request));
    const answer = await feed.next(call.caller, await parts.identify(call.caller));
    if (answer === undefined) throw new TypeError("the first answer is never nothing");
    return answer;
  } catch (thrown) {
    throw refusalOf(thrown, parts);
  } finally {
    release();
  }
}

function parseRequest(message: Uint8Array): DiscoveryRequest {
  return parsed(() => parseDiscoveryRequest(message));
}

function parseDelta(message: Uint8Array): DeltaRequest {
  return parsed(() => parseDeltaRequest(message));
}

function parsed<T>(parse: () => T): T {
  try {
    return parse();
  } catch (cause) {
    throw new CallRefusal("invalidArgument", "the request is malformed", { cause });
  }
}
