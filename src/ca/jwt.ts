// The JWT authority of this node: the JWT-SVIDs that it signs, and the keys that validate them. Nothing is signed before its journal entry is committed.

import { availableParallelism } from "node:os";
import { RiprapError } from "../error.ts";
import { type JwtSvidClaims, signJwtSvid, signJwtSvidNow } from "../jwt_svid.ts";
import type { SpiffeId } from "../spiffe_id.ts";
import { type JwtKey, writeJwtBundle } from "../trust_bundle.ts";
import type { NodeAuthority } from "./node_authority.ts";
import { readRecord, requireCa } from "./state.ts";
import { TokenAuthority, type TokenAuthorityOptions, type TokenSigner } from "./token_authority.ts";
import { openTokenJournal, type TokenJournal } from "./token_journal.ts";

/** A bearer token: whoever sees one can use it until it ends. */
export const JWT_LIFETIME_SECONDS = 300;
export const JWT_LIFETIME_SECONDS_MAX = 3600;
export const AUDIENCES_MAX = 16;
export const AUDIENCE_BYTES_MAX = 1024;
/** Some milliseconds of work; calls are answered in between. */
const BATCH_MAX = 64;
/** On the runtime's threads at once: as much as keeps them busy while the next batch is written. */
const ASIDE_MAX = 4 * BATCH_MAX;

export interface JwtSvidRequest {
  readonly spiffeId: SpiffeId | string;
  /** One at best: whoever gets the token can show it to each of them. */
  readonly audience: readonly string[];
  /** 1 to 3600; five minutes when not given. */
  readonly lifetimeSeconds?: number;
  readonly issuer?: string;
  /** Goes to the journal as JSON. */
  readonly context: Record<string, unknown>;
}

export interface IssuedJwtSvid {
  readonly token: string;
  readonly tokenId: string;
  readonly expiresAt: Date;
}

export interface JwtAuthority {
  /** What validates the tokens that it signs now. */
  readonly key: JwtKey;
  /** What validates its tokens: every key in the bundle. */
  readonly keys: readonly JwtKey[];
  /** The `iss` of its tokens. */
  readonly issuer: string;
  /** The keys as a plain JWK Set (RFC 7517), for OIDC discovery. */
  jwks(): string;
  /** Throws RiprapError `svid_refused`, `spiffe_id_invalid`, `audience_invalid`, `lifetime_invalid`, `issuer_expired`, `issuer_revoked`. */
  issue(request: JwtSvidRequest): Promise<IssuedJwtSvid>;
}

export interface JwtOptions extends TokenAuthorityOptions {
  /** Says which IDs this node may issue. */
  readonly authority: Pick<NodeAuthority, "issuable">;
  /** `iss`: a URL under which OIDC discovery finds the keys; the trust domain's ID unless given. */
  readonly issuer?: string;
}

/** Makes the key (0600) when there is none. RiprapError `ca_key_invalid`, `ca_not_initialised`, `state_not_private`. */
export function openJwtKey(options: JwtOptions): JwtAuthority {
  const { trustDomain } = readRecord(requireCa(options.stateDir).record);
  const issuer = options.issuer ?? trustDomain.id.toString();
  const signing = new TokenAuthority("jwt", options);
  const mint = new Mint({ ...options, signing, journal: openTokenJournal(options.store), issuer });
  return {
    issuer,
    get key() {
      const { keyId } = signing.signer();
      return signing.keys.find((key) => key.keyId === keyId) as JwtKey;
    },
    get keys() {
      return signing.keys;
    },
    jwks: () => writeJwtBundle({ jwt: signing.keys }),
    async issue(request) {
      checkAudience(request.audience);
      checkLifetime(request);
      return mint.issue(request);
    },
  };
}

interface MintParts extends Pick<JwtOptions, "authority" | "clock" | "store"> {
  readonly signing: TokenAuthority;
  readonly journal: TokenJournal;
  readonly issuer: string;
}

interface Order {
  readonly request: JwtSvidRequest;
  done(issued: IssuedJwtSvid): void;
  failed(thrown: unknown): void;
}

/** Claims whose entry is in the journal. */
interface Draft {
  readonly claims: JwtSvidClaims;
  readonly by: TokenSigner;
}

/**
 * Signs what is asked for in one turn together: the issuer is looked at once, and the entries are one commit. Of several tokens this thread signs its
 * share, and the runtime's threads the others.
 */
class Mint {
  readonly #parts: MintParts;
  readonly #orders: Order[] = [];
  /** One of so many tokens is signed here: all, where there is one processor. */
  readonly #share: number;
  #aside = 0;
  #isExpected = false;

  constructor(parts: MintParts) {
    this.#parts = parts;
    const processors = availableParallelism();
    // This thread has the journal to write besides.
    this.#share = processors === 1 ? 1 : processors + 2;
  }

  issue(request: JwtSvidRequest): Promise<IssuedJwtSvid> {
    return new Promise((done, failed) => {
      this.#orders.push({ request, done, failed });
      this.#expect();
    });
  }

  #expect(): void {
    if (this.#isExpected || this.#orders.length === 0 || this.#aside >= ASIDE_MAX) return;
    this.#isExpected = true;
    setImmediate(() => this.#work());
  }

  #work(): void {
    this.#isExpected = false;
    const orders = this.#orders.splice(0, BATCH_MAX);
    const failure = this.#sign(orders);
    // One that may not be issued must not take the others with it.
    if (failure !== undefined) for (const order of orders) this.#signAlone(order);
    this.#expect();
  }

  #signAlone(order: Order): void {
    const failure = this.#sign([order]);
    if (failure !== undefined) order.failed(failure.thrown);
  }

  /** All of them or none; what was thrown, when it is none. */
  #sign(orders: readonly Order[]): { readonly thrown: unknown } | undefined {
    let drafts: readonly Draft[];
    try {
      // Journal first: a token that exists without an entry could never be accounted for.
      drafts = this.#write(orders.map(({ request }) => request));
    } catch (thrown) {
      return { thrown };
    }
    const here: [Order, Draft][] = [];
    for (const [index, order] of orders.entries()) {
      const draft = drafts[index] as Draft;
      if (this.#isForHere(draft, index)) here.push([order, draft]);
      else this.#signAside(order, draft);
    }
    // Last: the others are signed meanwhile.
    for (const [order, draft] of here) settle(order, draft, () => signJwtSvidNow(draft.claims, draft.by));
    return undefined;
  }

  /** A signature of RSA takes a millisecond, and is never made while everybody waits. */
  #isForHere({ by }: Draft, index: number): boolean {
    return by.algorithm === "ES256" && index % this.#share === 0;
  }

  #signAside(order: Order, draft: Draft): void {
    this.#aside += 1;
    signJwtSvid(draft.claims, draft.by)
      .then((token) => settle(order, draft, () => token), order.failed)
      .finally(() => {
        this.#aside -= 1;
        this.#expect();
      });
  }

  /** Committed when it returns. */
  #write(requests: readonly JwtSvidRequest[]): readonly Draft[] {
    const { authority, clock, journal, signing, store } = this.#parts;
    // Before the transaction: it may have to make the next key, step by step.
    const by = signing.signer();
    const issuedAt = Math.floor(clock.now() / 1000);
    return store.transaction(() => {
      const allowed = authority.issuable();
      const drafts = requests.map((request) => ({ claims: this.#claimsOf(request, { allowed, by, issuedAt }), by }));
      journal.write(
        drafts.map(({ claims }, index) => ({
          ...{ kind: "jwt", tokenId: claims.tokenId, spiffeId: claims.spiffeId.toString(), keyId: by.keyId },
          ...{ audience: claims.audience, issuedAt, expiresAt: claims.expiresAt },
          context: (requests[index] as JwtSvidRequest).context,
        })),
      );
      return drafts;
    });
  }

  #claimsOf(
    { spiffeId, audience, lifetimeSeconds = JWT_LIFETIME_SECONDS, issuer = this.#parts.issuer }: JwtSvidRequest,
    at: { allowed: ReturnType<NodeAuthority["issuable"]>; by: TokenSigner; issuedAt: number },
  ): JwtSvidClaims {
    const { allowed, by, issuedAt } = at;
    const expiresAt = Math.min(issuedAt + lifetimeSeconds, Math.floor(by.notAfter / 1000));
    // Its ID is in the order of time, as the journal is.
    return { spiffeId: allowed(spiffeId), audience, tokenId: Bun.randomUUIDv7(), issuedAt, expiresAt, issuer };
  }
}

function settle({ done, failed }: Order, { claims: { tokenId, expiresAt } }: Draft, sign: () => string): void {
  try {
    done({ token: sign(), tokenId, expiresAt: new Date(expiresAt * 1000) });
  } catch (thrown) {
    failed(thrown);
  }
}

function checkLifetime({ spiffeId, lifetimeSeconds = JWT_LIFETIME_SECONDS }: JwtSvidRequest): void {
  if (Number.isInteger(lifetimeSeconds) && lifetimeSeconds >= 1 && lifetimeSeconds <= JWT_LIFETIME_SECONDS_MAX) return;
  const fact = `its life of ${lifetimeSeconds} seconds is not between 1 and ${JWT_LIFETIME_SECONDS_MAX}`;
  throw new RiprapError("lifetime_invalid", `Cannot issue a JWT-SVID for ${spiffeId}: ${fact}`);
}

function checkAudience(audience: readonly string[]): void {
  const fact =
    audience.length === 0
      ? "it is for no audience"
      : audience.length > AUDIENCES_MAX
        ? `it is for more than ${AUDIENCES_MAX} audiences`
        : audience.some((value) => value === "")
          ? "an audience is empty"
          : audience.some((value) => Buffer.byteLength(value) > AUDIENCE_BYTES_MAX)
            ? `an audience is longer than ${AUDIENCE_BYTES_MAX} bytes`
            : undefined;
  if (fact !== undefined) throw new RiprapError("audience_invalid", `Cannot issue a JWT-SVID: ${fact}`);
}
