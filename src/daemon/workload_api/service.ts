// The seven calls of the SPIFFE Workload API: counted, checked for the header, attested, answered. What each needs is in the rooms beside it.

import type { JwtAuthority, WitAuthority } from "../../ca.ts";
import type { Clock } from "../../clock.ts";
import { RiprapError } from "../../error.ts";
import { validateJwtSvid } from "../../jwt_svid.ts";
import type { Caller } from "./caller.ts";
import { BundleFeed, type Feed, type FeedParts, X509Feed } from "./feed.ts";
import type { Identified } from "./identity.ts";
import type { CallerLimits } from "./limit.ts";
import type { LiveStreams } from "./live.ts";
import {
  encodeJwtSvidResponse,
  encodeValidateResponse,
  parseEmptyRequest,
  parseJwtSvidRequest,
  parseValidateRequest,
  parseWitSvidRequest,
} from "./message.ts";
import { CallRefusal } from "./refusal.ts";
import type { Call, CallHead, Method, Service, StreamCall } from "./server.ts";
import { WitBundleFeed, WitFeed, type WitFeedParts } from "./wit_feed.ts";

/** The standard's proto file has no package. */
const SERVICE_PREFIX = "/SpiffeWorkloadAPI/";
/** Workload Endpoint section 3: what a server-side request forgery cannot set. */
const SECURITY_HEADER = "workload.spiffe.io";

export interface ServiceParts extends FeedParts {
  readonly clock: Clock;
  readonly jwt: Pick<JwtAuthority, "issue">;
  /** Where the configuration asks for WIT-SVIDs. */
  readonly wit?: WitAuthority;
  readonly limits: CallerLimits;
  readonly live: LiveStreams;
  readonly counters: WorkloadCounters;
  identify(caller: Caller): Promise<Identified>;
}

/** Calls since the start. */
export interface WorkloadCounters {
  calls: number;
  refused: number;
  limited: number;
}

export function createService(parts: ServiceParts): Service {
  const methods = {
    FetchX509SVID: stream(parts, () => new X509Feed(parts)),
    FetchX509Bundles: stream(parts, () => new BundleFeed("x509", parts)),
    FetchJWTSVID: unary(parts, (call) => fetchJwtSvid(call, parts)),
    FetchJWTBundles: stream(parts, () => new BundleFeed("jwt", parts)),
    ValidateJWTSVID: unary(parts, (call) => validate(call, parts)),
    FetchWITSVID: stream(parts, (call) => new WitFeed(requireWit(parts), parseWitSvidRequest(call.request))),
    FetchWITBundles: stream(parts, () => new WitBundleFeed(requireWit(parts))),
  };
  return { prefix: SERVICE_PREFIX, methods };
}

function unary(parts: ServiceParts, answer: (call: Call) => Promise<Uint8Array>): Method {
  return {
    kind: "unary",
    async answer(call) {
      const release = letIn(call, parts);
      try {
        return await answer(call);
      } catch (thrown) {
        throw refusalOf(thrown, parts);
      } finally {
        release();
      }
    },
  };
}

function stream(parts: ServiceParts, feed: (call: StreamCall) => Feed): Method {
  return {
    kind: "stream",
    async open(call: StreamCall) {
      const release = letIn(call, parts);
      if (call.signal.aborted) return release();
      call.signal.addEventListener("abort", release);
      try {
        parseEmptyRequest(call.request);
        await parts.live.open(call, feed(call));
      } catch (thrown) {
        release();
        throw refusalOf(thrown, parts);
      }
    },
  };
}

/** In this order: what is refused here has cost next to nothing. */
function letIn(call: CallHead, parts: ServiceParts): () => void {
  const { counters } = parts;
  const release = countCall(call, parts);
  const header = call.metadata(SECURITY_HEADER);
  if (header.length === 1 && header[0] === "true") return release;
  release();
  counters.refused += 1;
  const fact = header.length === 0 ? "missing from request" : "must be there once, with the value true";
  throw new CallRefusal("invalidArgument", `security header ${fact}`);
}

/** Counts a call of its caller until the answer is called; throws CallRefusal `unavailable` past the caller's limits. */
export function countCall(
  { caller }: CallHead,
  { clock, counters, limits }: Pick<ServiceParts, "clock" | "counters" | "limits">,
): () => void {
  counters.calls += 1;
  const release = limits.call(caller, clock.now());
  if (release !== undefined) return release;
  counters.limited += 1;
  throw new CallRefusal("unavailable", "too many calls: try again later");
}

function requireWit({ wit, ...parts }: ServiceParts): WitFeedParts {
  if (wit !== undefined) return { ...parts, wit };
  throw new CallRefusal("unimplemented", "the WIT-SVID profile is not turned on here (witSvid)");
}

async function fetchJwtSvid(call: Call, parts: ServiceParts): Promise<Uint8Array> {
  const { audience, spiffeId } = parseJwtSvidRequest(call.request);
  if (audience.length === 0) throw new CallRefusal("invalidArgument", "audience must be specified");
  const { assignment, evidence } = await parts.identify(call.caller);
  const own = assignment.spiffeId.toString();
  if (spiffeId !== "" && spiffeId !== own)
    throw new CallRefusal("permissionDenied", "no identity issued: the SPIFFE ID asked for is not the caller's");
  const { pid, exe, uid } = evidence;
  const { rule, because } = assignment;
  const context = { by: "workload-api", pid, exe, uid, rule, because };
  const { token } = await parts.jwt.issue({ spiffeId: assignment.spiffeId, audience, context });
  return encodeJwtSvidResponse([{ spiffeId: own, token }]);
}

/** For whoever calls: it says nothing that the bundle does not. */
async function validate(call: Call, parts: ServiceParts): Promise<Uint8Array> {
  const { audience, token } = parseValidateRequest(call.request);
  if (audience === "") throw new CallRefusal("invalidArgument", "audience must be specified");
  if (token === "") throw new CallRefusal("invalidArgument", "svid must be specified");
  const bundles = [parts.bundle(), ...parts.foreignBundles()];
  const answer = await validateJwtSvid(token, {
    audience,
    now: parts.clock.now(),
    keysOf: (of) => bundles.find(({ trustDomain }) => trustDomain.name === of.name)?.jwt,
  });
  if (!answer.ok) throw new CallRefusal("invalidArgument", answer.message);
  if (parts.authority.revokedIdReason(answer.spiffeId) !== undefined)
    throw new CallRefusal("invalidArgument", "Cannot accept the JWT-SVID: its SPIFFE ID is revoked");
  // Always a list, which clients expect.
  return encodeValidateResponse(answer.spiffeId.toString(), { ...answer.claims, aud: answer.audience });
}

/** RiprapError codes that are the caller's own doing, and those that are this node's state. */
const CALLERS_FAULT = new Set(["message_invalid", "audience_invalid"]);
const NODES_STATE = new Set(["issuer_expired", "issuer_revoked", "svid_refused", "store_unusable"]);

/** What the caller is told of a failure; what is our own bug stays itself. */
export function refusalOf(thrown: unknown, { counters }: Pick<ServiceParts, "counters">): unknown {
  counters.refused += 1;
  if (isStoreFailure(thrown))
    return new CallRefusal("unavailable", "the node's journal cannot be written now", { cause: thrown });
  if (thrown instanceof CallRefusal || !(thrown instanceof RiprapError)) return thrown;
  if (CALLERS_FAULT.has(thrown.code)) return new CallRefusal("invalidArgument", thrown.message, { cause: thrown });
  if (NODES_STATE.has(thrown.code)) return new CallRefusal("unavailable", thrown.message, { cause: thrown });
  return thrown;
}

/** Locked by another program, or the disk is full or broken: SQLite's own error codes. */
function isStoreFailure(thrown: unknown): boolean {
  const { code } = (thrown ?? {}) as { readonly code?: unknown };
  return typeof code === "string" && code.startsWith("SQLITE_");
}
