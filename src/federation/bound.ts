// How much may stand: of each author by its role, and of all together, in statements and in octets. Counts; judges no right, and keeps no statement.
import { tryParseSerialSetName } from "../fleet.ts";
import { keyHex, P256_KEY_BYTES } from "./curve.ts";
import type { Standing } from "./standing.ts";
import type { Statement } from "./statement.ts";

/** Statements as they travel. */
export interface Amount {
  readonly statements: number;
  readonly octets: number;
}

type Speaker = "root" | "issuer" | "operator" | "node";

export interface Bounds {
  /** Of everything that no reserve is for. */
  readonly state: Amount;
  /** One step of what is kept free beyond that: see STEPS. */
  readonly step: Amount;
  /** By the greatest role of the author. A root has no bound of its own: it can make any other role. */
  readonly author: Readonly<Record<Exclude<Speaker, "root">, Amount>>;
  /** What an issuing node or an operator may revoke beside that, though it is full of anything else. */
  readonly revocation: Amount;
  /** Sets of revoked serial numbers of one author: each some kilobytes, and made of dozens to thousands. */
  readonly sets: number;
}

const MIB = 1024 * 1024;

export const BOUNDS: Bounds = {
  // 100,000 nodes, where their workloads listen, and 11,000 resources several times over; octets at four times the usual half a kilobyte.
  state: { statements: 262_144, octets: 512 * MIB },
  step: { statements: 16_384, octets: 32 * MIB },
  author: {
    // One issuing node may have admitted 100,000 nodes, at some 700 octets each.
    issuer: { statements: 131_072, octets: 128 * MIB },
    // A person sets some 11,000 resources of about a kilobyte, and what he deletes counts on.
    operator: { statements: 65_536, octets: 64 * MIB },
    // Three words of itself, and serial numbers that it has revoked; its 256 sets may be as long as a body each.
    node: { statements: 4096, octets: 18 * MIB },
  },
  revocation: { statements: 16_384, octets: 18 * MIB },
  sets: 256,
};

/** Steps of the reserve that a speaker's revocations have: whoever fills his own leaves room to those who can end him. All that a root says has its. */
const STEPS: Readonly<Record<Speaker, number>> = { node: 1, operator: 2, issuer: 3, root: 4 };

export type BoundFault = readonly [code: "state_full" | "author_full", fact: string];

interface Held {
  statements: number;
  octets: number;
  sets: number;
}

type Weighed = Pick<Statement, "kind" | "name" | "author" | "authorId" | "bytes">;

/** What stands, counted. */
export class Holdings {
  readonly #standing: Pick<Standing, "grantsOfKey">;
  readonly #bounds: Bounds;
  readonly #all: Held = { statements: 0, octets: 0, sets: 0 };
  readonly #byAuthor = new Map<string, Held>();

  constructor(standing: Pick<Standing, "grantsOfKey">, bounds: Bounds) {
    this.#standing = standing;
    this.#bounds = bounds;
  }

  add(statement: Weighed): void {
    const said = this.#byAuthor.get(statement.authorId) ?? { statements: 0, octets: 0, sets: 0 };
    this.#byAuthor.set(statement.authorId, said);
    for (const held of [this.#all, said]) count(held, statement, 1);
  }

  remove(statement: Weighed): void {
    const said = this.#byAuthor.get(statement.authorId);
    if (said === undefined) return;
    for (const held of [this.#all, said]) count(held, statement, -1);
    if (said.statements === 0) this.#byAuthor.delete(statement.authorId);
  }

  /** Why there is no room for a statement in the place of `held`; undefined when there is. What makes nothing more is never refused. */
  fault(statement: Weighed, held: Weighed | undefined): BoundFault | undefined {
    const speaker = this.#speakerOf(statement);
    return this.#stateFault(statement, { held, speaker }) ?? this.#authorFault(statement, { held, speaker });
  }

  #stateFault(statement: Weighed, { held, speaker }: Place): BoundFault | undefined {
    const { state, step } = this.#bounds;
    const most = add(state, step, speaker === "root" || statement.kind === "revocation" ? STEPS[speaker] : 0);
    if (!isBeyond(this.#all, growth(statement, held), most)) return undefined;
    return ["state_full", `${this.#all.statements} statements of ${this.#all.octets} octets stand, and no more may`];
  }

  #authorFault(statement: Weighed, { held, speaker }: Place): BoundFault | undefined {
    if (speaker === "root") return undefined;
    const { author, revocation, sets } = this.#bounds;
    const said = this.#byAuthor.get(statement.authorId) ?? { statements: 0, octets: 0, sets: 0 };
    if (held === undefined && isSet(statement) && said.sets >= sets)
      return ["author_full", `its author has said ${sets} sets of serial numbers already`];
    const hasReserve = speaker !== "node" && statement.kind === "revocation";
    const most = add(author[speaker], revocation, hasReserve ? 1 : 0);
    const own = held?.authorId === statement.authorId ? held : undefined;
    if (!isBeyond(said, growth(statement, own), most)) return undefined;
    return ["author_full", `its author has said ${said.statements} things of ${said.octets} octets already`];
  }

  #speakerOf({ author }: Weighed): Speaker {
    if (author.length === P256_KEY_BYTES) return "root";
    const key = keyHex(author);
    const roles = ["issuer", "operator"] as const;
    return roles.find((role) => this.#standing.grantsOfKey(role, key).length > 0) ?? "node";
  }
}

interface Place {
  readonly held: Weighed | undefined;
  readonly speaker: Speaker;
}

function count(held: Held, statement: Weighed, sign: 1 | -1): void {
  held.statements += sign;
  held.octets += sign * statement.bytes.length;
  if (isSet(statement)) held.sets += sign;
}

function growth(statement: Weighed, held: Weighed | undefined): Amount {
  return { statements: held === undefined ? 1 : 0, octets: statement.bytes.length - (held?.bytes.length ?? 0) };
}

function isBeyond(now: Amount, more: Amount, most: Amount): boolean {
  const isOver = (unit: keyof Amount) => more[unit] > 0 && now[unit] + more[unit] > most[unit];
  return isOver("statements") || isOver("octets");
}

function add(amount: Amount, step: Amount, steps: number): Amount {
  return {
    statements: amount.statements + steps * step.statements,
    octets: amount.octets + steps * step.octets,
  };
}

function isSet({ kind, name }: Weighed): boolean {
  return kind === "revocation" && tryParseSerialSetName(name) !== undefined;
}
