// A store and a key store whose process dies before the N-th thing that they are to keep.

import { type KeyStore, openKeyStore } from "../../src/ca/key_store.ts";
import { openStore, type Store, storePath } from "../../src/store.ts";

export interface Mortal {
  readonly store: Store;
  readonly keys: KeyStore;
}

/** `dieAt` counts from 0. To die after a step is to die before the next: what is on the disk is the same. */
export function mortal(stateDir: string, dieAt: number, die: () => never): Mortal {
  let steps = 0;
  let depth = 0;
  const keep = <T>(work: () => T): T => {
    if (steps === dieAt) die();
    steps += 1;
    return work();
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
    settle: () => store.settle(),
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
  return { store: mortalStore, keys: mortalKeys };
}
