// The life of a signing authority: prepared, published, active, retired, revoked. Decides what may follow what and what time asks for; does nothing itself.

import { RiprapError } from "../error.ts";

/** `x509`: a root of the trust domain. `jwt` and `wit`: a key that signs tokens. */
export type AuthorityKind = "x509" | "jwt" | "wit";
export const AUTHORITY_KINDS: readonly AuthorityKind[] = ["x509", "jwt", "wit"];

/**
 * `prepared`: its key is made, nobody has heard of it. `published`: it is in the bundle. `active`: it signs. `retired`: it signs no more and what
 * it signed is good. `revoked`: it has left the bundle, and its key is gone.
 */
export type AuthorityPhase = "prepared" | "published" | "active" | "retired" | "revoked";

/** Times in milliseconds since the epoch; undefined: not yet. */
export interface AuthorityRecord {
  /** Fingerprint of a root, `kid` of a token key. */
  readonly id: string;
  readonly kind: AuthorityKind;
  readonly phase: AuthorityPhase;
  readonly algorithm: "ES256" | "RS256";
  /** DER: a root's certificate, a token key's SubjectPublicKeyInfo. */
  readonly material: Uint8Array;
  /** Where the key store has the private key that signs under it; empty: on another machine. */
  readonly keyName: string;
  /** DER, one after another: the CA certificates between that key and the root, that key's first. None for the root's own key. */
  readonly chain: Uint8Array;
  readonly notAfter: number;
  readonly preparedAt: number;
  readonly publishedAt: number | undefined;
  readonly activatedAt: number | undefined;
  readonly retiredAt: number | undefined;
  /** From here on everything under it is to be made anew, and then it is trusted no longer. */
  readonly taintedAt: number | undefined;
  readonly revokedAt: number | undefined;
}

export interface LifePolicy {
  /** How long a key is in the bundle before it signs. */
  readonly publishAheadMs: number;
  /** How long a token key signs. */
  readonly tokenKeyLifetimeMs: number;
  /** The longest life of what it signs: a retired key stays in the bundle that long. */
  readonly tokenLifetimeMaxMs: number;
}

/** Others look at the bundle every REFRESH_HINT_SECONDS (300): three times that, so that one failed look does no harm. */
export const LIFE_POLICY: LifePolicy = {
  publishAheadMs: 900_000,
  tokenKeyLifetimeMs: 7 * 24 * 3_600_000,
  tokenLifetimeMaxMs: 3_600_000,
};
/** Clocks that differ, and looks that come late. */
const MARGIN_MS = 300_000;

export type Step =
  | { readonly do: "prepare"; readonly kind: AuthorityKind }
  | { readonly do: "publish"; readonly id: string }
  /** `early`: the one before has ended, so that there is nothing to wait for. */
  | { readonly do: "activate"; readonly id: string; readonly early: boolean }
  | { readonly do: "revoke"; readonly id: string };

export function isInBundle({ phase }: Pick<AuthorityRecord, "phase">): boolean {
  return phase === "published" || phase === "active" || phase === "retired";
}

/** When it may sign, or undefined while it is not in the bundle. */
export function usableFrom({ publishedAt }: AuthorityRecord, { publishAheadMs }: LifePolicy): number | undefined {
  return publishedAt === undefined ? undefined : publishedAt + publishAheadMs;
}

/** What time asks for next among the authorities of one kind; undefined: nothing now. Roots are renewed by people alone. */
export function nextStep(
  kind: AuthorityKind,
  records: readonly AuthorityRecord[],
  { now, policy, algorithm }: { now: number; policy: LifePolicy; algorithm?: AuthorityRecord["algorithm"] },
): Step | undefined {
  const phase = (wanted: AuthorityPhase) => records.find((record) => record.phase === wanted);
  const prepared = phase("prepared");
  if (prepared !== undefined) return { do: "publish", id: prepared.id };
  if (kind === "x509") return undefined;
  const active = phase("active");
  const published = phase("published");
  const isSpent = active === undefined || active.notAfter <= now;
  const isOther = algorithm !== undefined && active !== undefined && active.algorithm !== algorithm;
  if (published !== undefined) {
    const isDue = isSpent || isOther || active.notAfter - now <= policy.tokenLifetimeMaxMs + MARGIN_MS;
    const isKnown = now >= (usableFrom(published, policy) ?? Number.POSITIVE_INFINITY);
    if (isDue && (isKnown || isSpent)) return { do: "activate", id: published.id, early: !isKnown };
  } else if (isSpent || isOther || active.notAfter - now <= leadOf(policy)) {
    return { do: "prepare", kind };
  }
  const over = records.find((record) => isOver(record, now, policy));
  return over === undefined ? undefined : { do: "revoke", id: over.id };
}

/** How long before the end of a token key its successor is made: time to be known, and to sign for what it signs to end in order. */
export function leadOf({ publishAheadMs, tokenLifetimeMaxMs }: LifePolicy): number {
  return publishAheadMs + tokenLifetimeMaxMs + 2 * MARGIN_MS;
}

function isOver({ phase, retiredAt }: AuthorityRecord, now: number, { tokenLifetimeMaxMs }: LifePolicy): boolean {
  return phase === "retired" && retiredAt !== undefined && now > retiredAt + tokenLifetimeMaxMs + MARGIN_MS;
}

export type Action = "publish" | "activate" | "taint" | "revoke";

/**
 * Throws RiprapError: `authority_phase` for what cannot follow, `authority_too_early` for a key that others may not know yet (`force` goes on),
 * `authority_in_use` for the one that signs (`force` goes on with revoke), `root_not_here` for a root whose key is elsewhere.
 */
export function requireAllowed(
  action: Action,
  record: AuthorityRecord,
  { now, policy, force }: { now: number; policy: LifePolicy; force: boolean },
): void {
  const fault = faultOf(action, record, { now, policy, force });
  if (fault === undefined) return;
  const [code, fact] = fault;
  throw new RiprapError(code, `Cannot ${action} the ${record.kind} authority ${shortId(record.id)}: ${fact}`);
}

/** As much of an ID as tells two apart. */
export function shortId(id: string): string {
  return id.slice(0, 16);
}

function faultOf(
  action: Action,
  record: AuthorityRecord,
  { now, policy, force }: { now: number; policy: LifePolicy; force: boolean },
): readonly [code: string, fact: string] | undefined {
  const { phase } = record;
  const wrong = (remedy: string) => ["authority_phase", `it is ${phase}; ${remedy}`] as const;
  switch (action) {
    case "publish":
      return phase === "prepared" ? undefined : wrong("only a prepared one can be");
    case "activate":
      return phase === "published"
        ? activationFault(record, { now, policy, force })
        : wrong("prepare another with `riprap authority prepare`, and activate that");
    case "taint":
      if (record.taintedAt !== undefined && isInBundle(record)) return ["authority_phase", "it is tainted already"];
      if (phase === "active" && !force)
        return ["authority_in_use", "it signs; activate another first, or give --force to make one and use it at once"];
      return phase === "active" || phase === "retired" ? undefined : wrong("nothing is signed under it: revoke it");
    case "revoke":
      if (phase === "active" && !force)
        return ["authority_in_use", "it signs; activate another first, or give --force to sign with none"];
      return phase === "revoked" ? wrong("there is nothing left to do") : undefined;
  }
}

function activationFault(
  record: AuthorityRecord,
  { now, policy, force }: { now: number; policy: LifePolicy; force: boolean },
): readonly [code: string, fact: string] | undefined {
  if (record.keyName === "") return ["root_not_here", "its key is not on this node; do it where the key is"];
  if (record.notAfter <= now) return ["authority_phase", "it has ended; prepare another"];
  const from = usableFrom(record, policy) ?? now;
  if (now >= from || force) return undefined;
  const fact = `others may not know it before ${new Date(from).toISOString()}; wait, or give --force`;
  return ["authority_too_early", fact];
}
