// How much one caller may ask for, counted before anything is done for it, so that none can starve the rest. Pure: the time is a value.

/** Of one process and of one user: connections held open, calls held open, calls begun. */
export interface Bounds {
  readonly connections: number;
  readonly calls: number;
  /** How many calls may come at once, after a time of silence. */
  readonly burst: number;
  readonly callsPerSecond: number;
}

export interface Limits {
  readonly process: Bounds;
  readonly user: Bounds;
  /** Of everybody together; a connection takes two descriptors and some 40 KiB. */
  readonly connections: number;
}

/** A client needs one connection and a stream of each kind; a busy one may ask for a JWT-SVID at each request that it makes. */
export const LIMITS: Limits = {
  process: { connections: 64, calls: 128, burst: 500, callsPerSecond: 500 },
  user: { connections: 512, calls: 1024, burst: 1000, callsPerSecond: 1000 },
  connections: 2048,
};

/** Who is counted: a process by number and start, so that its successor does not pay for it. */
export interface Counted {
  readonly pid: number;
  readonly uid: number;
  readonly startTimeNs: bigint;
}

interface Account {
  connections: number;
  calls: number;
  looks: number;
  tokens: number;
  filledAt: number;
}

/** A connection or a call that was let in; to be given back once. */
export type Release = () => void;

/** Each goes through all that every process has open. */
const LOOKS_MAX = 4;

/** Accounts past which those are dropped that owe nothing. */
const SWEEP_ABOVE = 1024;

export class CallerLimits {
  readonly #limits: Limits;
  readonly #accounts = new Map<string, Account>();
  #connections = 0;

  constructor(limits: Limits = LIMITS) {
    this.#limits = limits;
  }

  /** Accounts in memory: of those who hold something, or did within the last seconds. */
  get size(): number {
    return this.#accounts.size;
  }

  /** Would a connection of this user be refused, whichever its process? Asked before the process is looked at; takes nothing. */
  isSpent(uid: number, now: number): boolean {
    const { user, connections } = this.#limits;
    const account = this.#account(`user ${uid}`, user, now);
    return this.#connections >= connections || account.tokens < 1 || account.connections >= user.connections;
  }

  /** A look for the process of a user's connection, which takes milliseconds; undefined when LOOKS_MAX of that user are under way. Costs a token. */
  look(uid: number, now: number): Release | undefined {
    const account = this.#account(`user ${uid}`, this.#limits.user, now);
    if (account.looks >= LOOKS_MAX || account.tokens < 1) return undefined;
    account.looks += 1;
    account.tokens -= 1;
    return once(() => {
      account.looks -= 1;
    });
  }

  /** Undefined: no more connections for this caller, or too fast. `now` in milliseconds. */
  connect(caller: Counted, now: number): Release | undefined {
    if (this.#accounts.size > SWEEP_ABOVE) this.#sweep(now);
    if (this.#connections >= this.#limits.connections) return undefined;
    const release = this.#take(caller, now, "connections");
    if (release === undefined) return undefined;
    this.#connections += 1;
    return once(() => {
      release();
      this.#connections -= 1;
    });
  }

  /** Undefined: too many calls at once, or too fast. */
  call(caller: Counted, now: number): Release | undefined {
    return this.#take(caller, now, "calls");
  }

  /** Each connection and each call costs a token of its process and one of its user. */
  #take(caller: Counted, now: number, what: "connections" | "calls"): Release | undefined {
    const { process, user } = this.#limits;
    const owners = [
      { account: this.#account(`process ${caller.pid} ${caller.startTimeNs}`, process, now), bounds: process },
      { account: this.#account(`user ${caller.uid}`, user, now), bounds: user },
    ];
    if (owners.some(({ account, bounds }) => account.tokens < 1 || account[what] >= bounds[what])) return undefined;
    for (const { account } of owners) {
      account.tokens -= 1;
      account[what] += 1;
    }
    return once(() => {
      for (const { account } of owners) account[what] -= 1;
    });
  }

  #account(key: string, bounds: Bounds, now: number): Account {
    const known = this.#accounts.get(key);
    if (known !== undefined) {
      fill(known, bounds, now);
      return known;
    }
    const account = { connections: 0, calls: 0, looks: 0, tokens: bounds.burst, filledAt: now };
    this.#accounts.set(key, account);
    return account;
  }

  // An account is kept until its tokens are back: who hangs up and comes again is still the same caller.
  #sweep(now: number): void {
    for (const [key, account] of this.#accounts) {
      const bounds = key.startsWith("user ") ? this.#limits.user : this.#limits.process;
      fill(account, bounds, now);
      const owes = account.connections > 0 || account.calls > 0 || account.looks > 0 || account.tokens < bounds.burst;
      if (!owes) this.#accounts.delete(key);
    }
  }
}

function fill(account: Account, { burst, callsPerSecond }: Bounds, now: number): void {
  // A clock that was set back must not empty the bucket.
  const seconds = Math.max(0, now - account.filledAt) / 1000;
  account.tokens = Math.min(burst, account.tokens + seconds * callsPerSecond);
  account.filledAt = now;
}

function once(release: () => void): Release {
  let isHeld = true;
  return () => {
    if (isHeld) release();
    isHeld = false;
  };
}
