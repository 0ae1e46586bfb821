import { describe, expect, test } from "bun:test";
import { chmodSync, existsSync, statSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { openStore, storePath } from "../src/store.ts";
import { scratchDirectories } from "./scratch.ts";

const scratch = scratchDirectories();
const STORE = join(import.meta.dir, "../src/store.ts");
const MAY_MOUNT = Bun.spawnSync(["unshare", "--mount", "true"], { stderr: "ignore" }).exitCode === 0;
const STEPS = ["CREATE TABLE t (a INTEGER PRIMARY KEY) STRICT"];

describe("openStore()", () => {
  test("openStore() makes the database and its journal with mode 0600 in a directory of mode 0700", () => {
    const path = storePath(join(scratch(), "state"));
    const store = openStore(path);
    store.migrate("room", STEPS);
    for (const file of [path, `${path}-wal`, `${path}-shm`])
      expect([file, statSync(file).mode & 0o777]).toEqual([file, 0o600]);
    expect(statSync(join(path, "..")).mode & 0o777).toBe(0o700);
    store.close();
  });

  test("openStore() keeps what was committed when it is opened again", () => {
    const path = storePath(scratch());
    const first = openStore(path);
    first.migrate("room", STEPS);
    first.prepare("INSERT INTO t VALUES (?)").run(7);
    first.close();
    const second = openStore(path);
    second.migrate("room", STEPS);
    expect(second.prepare<{ a: number }>("SELECT a FROM t").all()).toEqual([{ a: 7 }]);
    expect(second.prepare("SELECT a FROM t WHERE a = ?").get(8)).toBeUndefined();
    second.close();
  });

  test("openStore() refuses a database or directory that others can read, and a symbolic link", () => {
    const home = scratch();
    openStore(storePath(home)).close();
    chmodSync(storePath(home), 0o640);
    expect(() => openStore(storePath(home))).toThrow("chmod 600");
    chmodSync(home, 0o755);
    expect(() => openStore(storePath(home))).toThrow("chmod 700");
    const other = scratch();
    symlinkSync("/etc/hostname", join(other, "state.db"));
    expect(() => openStore(storePath(other))).toThrow("Cannot open the database");
  });

  test("openStore() says what is wrong when the file is no database", () => {
    const path = storePath(scratch());
    Bun.spawnSync(["sh", "-c", `umask 077; yes nonsense | head -c 8192 > ${path}`]);
    expect(() => openStore(path)).toThrow(
      /^Cannot use the database .*state\.db: it is damaged .*riprap authority rebuild/,
    );
  });

  test.skipIf(!MAY_MOUNT)(
    "openStore() says what to do when the state directory is read-only (skipped where nothing can be mounted)",
    () => {
      const home = scratch();
      openStore(storePath(home)).close();
      const open = `require(${JSON.stringify(STORE)}).openStore(${JSON.stringify(storePath(home))})`;
      const mount = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$@"';
      const words = ["unshare", "--mount", "sh", "-c", mount, home, process.execPath, "-e"];
      const { stderr } = Bun.spawnSync([
        ...words,
        `try { ${open} } catch ({ code, message }) { console.error(code, message) }`,
      ]);
      expect(stderr.toString()).toMatch(
        /^store_unusable Cannot open the database .*state\.db: EROFS.*; make the state dir/,
      );
    },
  );

  test("openStore() keeps nothing on disk when the path is :memory:", () => {
    openStore(":memory:").close();
    expect(existsSync(":memory:")).toBe(false);
  });
});

describe("migrate()", () => {
  test("migrate() applies each step once, and the new ones of each room later", () => {
    const store = openStore(":memory:");
    store.migrate("a", STEPS);
    store.migrate("a", [...STEPS, "ALTER TABLE t ADD COLUMN b TEXT"]);
    store.migrate("b", ["CREATE TABLE u (c TEXT) STRICT"]);
    store.prepare("INSERT INTO t VALUES (1, 'x')").run();
    expect(store.prepare("SELECT * FROM t").all()).toEqual([{ a: 1, b: "x" }]);
  });

  test("migrate() applies nothing when one step fails", () => {
    const store = openStore(":memory:");
    expect(() => store.migrate("a", [...STEPS, "NO SUCH SQL"])).toThrow();
    store.migrate("a", STEPS);
  });

  test("migrate() refuses when a newer riprap has been there", () => {
    const store = openStore(":memory:");
    store.migrate("a", STEPS);
    expect(() => store.migrate("a", [])).toThrow("newer riprap");
  });
});

describe("transaction()", () => {
  test("transaction() rolls back when its work throws, also what a nested one did", () => {
    const store = openStore(":memory:");
    store.migrate("a", STEPS);
    const insert = store.prepare("INSERT INTO t VALUES (?)");
    expect(() =>
      store.transaction(() => {
        insert.run(1);
        store.transaction(() => insert.run(2));
        throw new Error("no");
      }),
    ).toThrow("no");
    expect(store.prepare("SELECT * FROM t").all()).toEqual([]);
    expect(store.transaction(() => insert.run(3))).toBe(1);
  });

  test("look() answers all questions by one state, whatever others write meanwhile", () => {
    const path = storePath(scratch());
    const [store, other] = [openStore(path), openStore(path)];
    store.migrate("room", STEPS);
    const count = store.prepare<{ n: number }>("SELECT count(*) AS n FROM t");
    const seen = store.look(() => {
      const before = count.get()?.n;
      other.prepare("INSERT INTO t VALUES (?)").run(1);
      return [before, count.get()?.n];
    });
    expect(seen).toEqual([0, 0]);
    expect(count.get()?.n).toBe(1);
    expect(() => store.look(() => JSON.parse("{"))).toThrow(SyntaxError);
    store.prepare("INSERT INTO t VALUES (?)").run(2);
    for (const each of [store, other]) each.close();
  });

  test("transaction() takes back only its own work when the outer one catches what it throws", () => {
    const store = openStore(":memory:");
    store.migrate("a", STEPS);
    const insert = store.prepare("INSERT INTO t VALUES (?)");
    store.transaction(() => {
      insert.run(1);
      const inner = () =>
        store.transaction(() => {
          insert.run(2);
          throw new Error("no");
        });
      expect(inner).toThrow("no");
      insert.run(3);
    });
    expect(store.prepare<{ a: number }>("SELECT a FROM t ORDER BY a").all()).toEqual([{ a: 1 }, { a: 3 }]);
  });
});
