// Says the serial numbers that this node has revoked one by one as a set when they have become many: a set of them is a hundredth as long.

import type { RevokedSetOptions } from "../../ca.ts";
import type { Clock } from "../../clock.ts";
import { describeError } from "../../error.ts";
import { keyIdOf } from "../../federation/curve.ts";
import { draftSerialSet } from "../../federation/serial_set.ts";
import { BODY_BYTES_MAX, type Statement } from "../../federation/statement.ts";
import { tryParseTarget } from "../../fleet.ts";
import type { SerialSet } from "../../serial_set.ts";
import type { Fleet } from "../fleet.ts";
import type { Log } from "../log.ts";
import { Waker } from "../waker.ts";

/** So many stand by themselves: a set costs some 260 octets whatever is in it, and reading through all that was signed. */
export const SINGLES_MAX = 64;
/** And a quarter of what is in sets, so that ten thousand at once do not make hundreds of sets; up to a half of what a node may have said. */
const SINGLES_SHARE = 4;
const SINGLES_MOST = 2048;
/** Many are revoked one after the other: the last of them is waited for a little. */
const SETTLE_MS = 500;
/** Those that were too fresh for a set may be in one a while later. */
const LOOK_EVERY_MS = 60_000;

export interface SetKeeperParts {
  readonly fleet: Pick<Fleet, "state" | "self" | "say" | "signer">;
  readonly clock: Clock;
  readonly log: Log;
  makeSets(options: RevokedSetOptions): readonly SerialSet[];
}

interface Single {
  readonly authority: string;
  readonly serial: string;
}

export class SetKeeper {
  readonly #parts: SetKeeperParts;
  readonly #waker: Waker;

  constructor(parts: SetKeeperParts) {
    this.#parts = parts;
    this.#waker = new Waker(parts.clock);
  }

  /** A serial number was revoked. */
  soon(): void {
    this.#waker.wake();
  }

  /** Answers the sets that it said: none while few serial numbers stand by themselves. */
  look(): readonly Statement[] {
    const { fleet } = this.#parts;
    const { self, state } = fleet;
    if (self?.state !== "active") return [];
    const singles = this.#singles(self.authorities);
    const inSets = state.standing.setsOf(self.authorities).reduce((sum, { set }) => sum + set.count, 0);
    if (singles.length <= Math.min(SINGLES_MOST, Math.max(SINGLES_MAX, inSets / SINGLES_SHARE))) return [];
    return [...Map.groupBy(singles, ({ authority }) => authority)].flatMap(([authority, those]) =>
      this.#say(authority, new Set(those.map(({ serial }) => serial))),
    );
  }

  /** Until the signal. */
  async run(signal: AbortSignal): Promise<void> {
    const { log } = this.#parts;
    while (!signal.aborted) {
      try {
        this.look();
      } catch (thrown) {
        log.error("revoked serial numbers could not be said as a set", { error: describeError(thrown) });
      }
      await this.#waker.sleep(LOOK_EVERY_MS, signal, SETTLE_MS);
    }
  }

  /** What this node has said of its own serial numbers, and what ends: the end of a set has to be no sooner. */
  #singles(authorities: readonly string[]): readonly Single[] {
    const { fleet, clock } = this.#parts;
    const now = clock.now();
    return fleet.state.listByAuthor(keyIdOf(fleet.signer.publicKey)).flatMap(({ kind, name, expiresAt }) => {
      const target = kind === "revocation" && expiresAt > now ? tryParseTarget(name) : undefined;
      if (target?.type !== "serial" || !authorities.includes(target.authority)) return [];
      return [{ authority: target.authority, serial: target.value }];
    });
  }

  #say(authority: string, revoked: ReadonlySet<string>): readonly Statement[] {
    const { fleet, clock, log, makeSets } = this.#parts;
    const now = clock.now();
    return makeSets({ authority, now, revoked, bytesMax: BODY_BYTES_MAX }).map((set) => {
      const statement = fleet.say(draftSerialSet(set, { authority, time: now }));
      const facts = { serials: set.count, octets: statement.bytes.length, statement: statement.hash };
      log.info("revoked serial numbers are said as a set", facts);
      return statement;
    });
  }
}
