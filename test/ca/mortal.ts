// A store and a key store that die at the N-th thing they are to keep: before it is kept, or just after. Nothing is kept from then on.

import { type KeyStore, openKeyStore } from "../../src/ca/key_store.ts";
import { openStore, type Store, storePath } from "../../src/store.ts";

export class Death extends Error {}

export interface Mortal {
  readonly store: Store;
  readonly keys: KeyStore;
  /** How many things were to be kept. */
  readonly steps: number;
  close(): void;
}

/** `dieAt` counts from 0; an even one dies before step dieAt / 2, an odd one after it. `die` says how: a throw unless given. */
export function mortal(stateDir: string, dieAt: number, die?: () => never): Mortal {
  let steps = 0;
  let dead = false;
  let depth = 0;
  const end = (): never => {
    dead = true;
    if (die !== undefined) die();
    throw new Death(`at ${dieAt}`);
  };
  const keep = <T>(work: () => T): T => {
    if (dead || steps * 2 === dieAt) end();
    const answer = work();
    steps += 1;
    if (steps * 2 - 1 === dieAt) end();
    return answer;
  };
  const store = openStore(storePath(stateDir));
  const keys = openKeyStore(stateDir);
  const mortalStore: Store = {
    path: store.path,
    migrate: (room, list) => store.migrate(room, list),
    prepare(sql) {
      const statement = store.prepare<never>(sql);
      return {
        ...statement,
        run: (...values) => (depth > 0 ? statement.run(...values) : keep(() => statement.run(...values))),
      };
    },
    transaction(work) {
      if (depth > 0) return store.transaction(work);
      return keep(() =>
        store.transaction(() => {
          depth += 1;
          try {
            return work();
          } finally {
            depth -= 1;
          }
        }),
      );
    },
    look: (work) => store.look(work),
    close: () => store.close(),
  };
  const mortalKeys: KeyStore = new Proxy(keys, {
    get(target, name) {
      const value = Reflect.get(target, name);
      if (typeof value !== "function") return value;
      const bound = value.bind(target);
      const keeps = ["createKey", "copy", "remove", "sealSecret"].includes(String(name));
      return keeps ? (...values: unknown[]) => keep(() => bound(...values)) : bound;
    },
  });
  return {
    store: mortalStore,
    keys: mortalKeys,
    get steps() {
      return steps;
    },
    close: () => store.close(),
  };
}
