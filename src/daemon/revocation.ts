// Revokes what a person names: a serial number, a SPIFFE ID, an authority. At once on this node, and said to the fleet where there is one.

import type { NodeAuthority, SignedSvid } from "../ca.ts";
import { RiprapError } from "../error.ts";
import { type Keep, type RevocationTarget, tryParseTarget } from "../fleet.ts";
import { SpiffeId } from "../spiffe_id.ts";
import type { AuthorityPort } from "./control/authority.ts";
import type { RevocationPort, RevocationView, RevokeOptions } from "./control/port.ts";
import type { Log } from "./log.ts";
import { asStateFault } from "./state_fault.ts";

export interface RevokerParts {
  readonly authority: Pick<NodeAuthority, "revoke" | "revokeId" | "revokeKey" | "liftId" | "revokedIds">;
  readonly authorities: AuthorityPort;
  readonly log: Log;
  /** What was revoked stays so after a power cut. */
  settle(): void;
  /** What this node signed under the serial number, if it did. */
  signedUnder(serial: string): SignedSvid | undefined;
  /** An ID may be used no more, or again: who has it is judged anew. */
  identitiesChanged(): void;
  /** Something shown by peers or held here is revoked: peers are cut off, what is held here is made anew. */
  trustChanged(serial: string | undefined): Promise<void>;
  /** Says it to the fleet; answers a sentence about that, or undefined where there is no fleet. */
  announce?(
    target: RevocationTarget,
    about: { readonly reason: string; readonly keep: Keep },
  ): Promise<string | undefined>;
  /** Hash of the fleet's statement that revokes it, which nobody can take back; undefined when there is none. */
  standing?(target: RevocationTarget): string | undefined;
}

const SERIAL = /^(?:[0-9a-f]{2}){1,20}$/;
const KEY_ID = /^[0-9a-f]{40}$/;

type About = Pick<RevokeOptions, "reason" | "isLocal"> & Partial<Pick<RevokeOptions, "keep">>;

type Named =
  | { readonly type: "serial"; readonly serial: string; readonly issuer?: string }
  | { readonly type: "id"; readonly id: SpiffeId }
  | { readonly type: "authority"; readonly id: string }
  | { readonly type: "fleet"; readonly target: RevocationTarget };

export class Revoker implements RevocationPort {
  readonly #parts: RevokerParts;

  constructor(parts: RevokerParts) {
    this.#parts = parts;
  }

  list(): ReturnType<RevocationPort["list"]> {
    return this.#parts.authority
      .revokedIds()
      .map(({ revokedAt, ...about }) => ({ ...about, revokedAt: new Date(revokedAt).toISOString() }));
  }

  async revoke(text: string, options: RevokeOptions): Promise<RevocationView> {
    try {
      return await this.#revoke(text, options);
    } catch (thrown) {
      throw asStateFault(thrown, "revoke");
    }
  }

  async #revoke(text: string, options: RevokeOptions): Promise<RevocationView> {
    const { reason, force, isLocal, keep } = options;
    const named = parseNamed(text);
    const isRole = named.type === "fleet" && (named.target.type === "operator" || named.target.type === "issuer");
    if (keep !== "all" && !isRole) throw refused(text, "--keep is for operator:NAME and issuer:NAME alone");
    const because = reason === "" ? "revoked by command" : reason;
    switch (named.type) {
      case "serial":
        return this.#serial(named, { reason: because, isLocal });
      case "id":
        return this.#id(named.id, { reason: because, isLocal });
      case "authority":
        return this.#authority(named.id, { reason: because, force, isLocal, keep });
      case "fleet":
        return this.#fleet(named.target, { reason: because, keep });
    }
  }

  async lift(text: string): Promise<RevocationView> {
    const named = parseNamed(text);
    if (named.type !== "id") throw refused(text, "only a SPIFFE ID can be lifted; what was signed stays revoked");
    const { authority, identitiesChanged, log, standing } = this.#parts;
    const statement = standing?.({ type: "id", value: named.id.toString() });
    if (statement !== undefined) {
      const remedy = "a revocation is never taken back there; give the workload another ID";
      const fact = `the fleet's statement ${statement} stands, and ${remedy}`;
      throw new RiprapError("revocation_permanent", `Cannot lift ${named.id}: ${fact}`);
    }
    if (!authority.liftId(named.id)) throw new RiprapError("not_found", `Cannot lift ${named.id}: it is not revoked`);
    log.warn("a SPIFFE ID may be used again", { spiffeId: named.id.toString() });
    identitiesChanged();
    return { target: `id:${named.id}`, outcome: "lifted", notes: [] };
  }

  async #serial({ serial, issuer }: Extract<Named, { type: "serial" }>, about: About): Promise<RevocationView> {
    const { reason } = about;
    const { authority, log, settle, signedUnder, trustChanged } = this.#parts;
    const known = signedUnder(serial);
    const outcome = authority.revoke(serial, reason);
    settle();
    log.warn("an X509-SVID was revoked by command", { serial, spiffeId: known?.spiffeId, reason });
    await trustChanged(serial);
    const key = issuer ?? known?.authority;
    const notes =
      key === undefined ? [] : await this.#announce({ type: "serial", authority: key, value: serial }, about);
    const whose = known === undefined ? "This node did not sign it." : `It was ${known.spiffeId}'s.`;
    return { target: `serial:${serial}`, outcome, notes: [whose, ...notes] };
  }

  async #id(id: SpiffeId, about: About): Promise<RevocationView> {
    const { reason } = about;
    const { authority, identitiesChanged, log, settle, trustChanged } = this.#parts;
    const outcome = authority.revokeId(id, reason);
    settle();
    log.warn("a SPIFFE ID was revoked by command", { spiffeId: id.toString(), reason });
    identitiesChanged();
    await trustChanged(undefined);
    const notes = await this.#announce({ type: "id", value: id.toString() }, about);
    return { target: `id:${id}`, outcome, notes };
  }

  async #authority(id: string, options: RevokeOptions): Promise<RevocationView> {
    // An intermediate's key identifier; else one of the life cycle's.
    if (KEY_ID.test(id)) {
      const { authority, settle, trustChanged } = this.#parts;
      const outcome = authority.revokeKey(id, options.reason);
      settle();
      const notes = await this.#announce({ type: "authority", value: id }, options);
      if (outcome === undefined && notes.length === 0)
        throw refused(
          `authority:${id}`,
          "this node signed no intermediate with that key, and is in no fleet that could be told",
        );
      await trustChanged(undefined);
      return { target: `authority:${id}`, outcome: outcome ?? "revoked", notes };
    }
    const { authority, notes } = await this.#parts.authorities.revoke(id, options);
    return { target: `authority:${authority.id}`, outcome: "revoked", notes };
  }

  async #fleet(target: RevocationTarget, about: Pick<RevokeOptions, "reason" | "keep">): Promise<RevocationView> {
    const notes = await this.#announce(target, { ...about, isLocal: false });
    if (notes.length === 0) throw refused(target.type, "this node is in no fleet that could be told");
    return { target: `${target.type}:${target.value}`, outcome: "revoked", notes };
  }

  async #announce(target: RevocationTarget, { reason, isLocal, keep = "all" }: About): Promise<readonly string[]> {
    if (isLocal) return ["On this node alone."];
    const said = await this.#parts.announce?.(target, { reason, keep });
    return said === undefined ? [] : [said];
  }
}

/** `spiffe://…` and hexadecimal digits say what they are; everything else says its type first. */
function parseNamed(text: string): Named {
  if (text.startsWith("spiffe://")) return { type: "id", id: SpiffeId.parse(text) };
  const bare = text
    .replace(/^serial:/, "")
    .toLowerCase()
    .replaceAll(":", "");
  if (SERIAL.test(bare) && !/^[0-9a-f]{40}:/.test(text.replace(/^serial:/, "")))
    return { type: "serial", serial: bare };
  if (text.startsWith("authority:")) return { type: "authority", id: text.slice("authority:".length) };
  const target = tryParseTarget(text);
  if (target?.type === "serial") return { type: "serial", serial: target.value, issuer: target.authority };
  if (target?.type === "id") return { type: "id", id: SpiffeId.parse(target.value) };
  if (target !== undefined) return { type: "fleet", target };
  throw refused(text, "name a serial number in hexadecimal, a SPIFFE ID, or authority:ID");
}

function refused(what: string, fact: string): RiprapError {
  return new RiprapError("revocation_invalid", `Cannot revoke ${JSON.stringify(what.slice(0, 120))}: ${fact}`);
}
