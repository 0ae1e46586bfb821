// Keys at rest under a seal: what is on the disk, what opens it again, what is refused, and every step at which a change can be cut off.
import { afterAll, beforeAll, describe, expect, spyOn, test } from "bun:test";
import { createECDH, verify } from "node:crypto";
import * as fs from "node:fs";
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { p256 } from "@noble/curves/nist.js";
import { createKey, keyOfPoint } from "../../../src/ca/key.ts";
import { scalarOf } from "../../../src/ca/key_store/held_key.ts";
import { parseRecord, type SealGround } from "../../../src/ca/key_store/seal.ts";
import {
  type CustodySetting,
  custodyWarnings,
  exportKey,
  type KeyModule,
  moveCustody,
  openKeyStore,
} from "../../../src/ca/key_store.ts";
import { RiprapError } from "../../../src/error.ts";
import { draw, random } from "../../random.ts";
import { HAS_SWTPM, HAS_SYSTEMD_CREDS, NO_SYSTEMD, noTpm, type SoftTpm, startSwtpm, systemdOf } from "./ground.ts";

const root = mkdtempSync(join(tmpdir(), "riprap-keys-"));
const MESSAGE = Buffer.from("to be signed");
let tpm: SoftTpm | undefined;
beforeAll(async () => {
  if (HAS_SWTPM) tpm = await startSwtpm();
});
afterAll(async () => {
  await tpm?.stop();
  rmSync(root, { recursive: true });
});

let made = 0;
function scratch(): string {
  made += 1;
  const stateDir = join(root, String(made));
  mkdirSync(join(stateDir, "ca"), { recursive: true, mode: 0o700 });
  return stateDir;
}

const ground = (): SealGround => ({ openTpm: tpm?.open ?? noTpm, systemd: systemdOf(root) });
const BARE: SealGround = { openTpm: noTpm, systemd: NO_SYSTEMD };
const store = (stateDir: string, custody: CustodySetting = "file", on = ground()) =>
  openKeyStore(stateDir, { custody, ground: on });
const code = (work: () => unknown): string => {
  try {
    work();
  } catch (thrown) {
    if (thrown instanceof RiprapError) return thrown.code;
    throw thrown;
  }
  return "no error";
};
const files = (stateDir: string) => readdirSync(join(stateDir, "ca")).sort();

/** Signs with a key as if after a restart, and says whether that holds for the point. */
function works(stateDir: string, name: string, point: Uint8Array, on = ground()): boolean {
  const key = store(stateDir, "file", on).openKey(name);
  const signature = key.sign(MESSAGE);
  return Buffer.from(key.publicKey).equals(point) && verify("sha256", MESSAGE, keyOfPoint(point) as never, signature);
}

const CUSTODIES: readonly ["tpm" | "systemd", boolean][] = [
  ["tpm", HAS_SWTPM],
  ["systemd", HAS_SYSTEMD_CREDS],
];

for (const [custody, isHere] of CUSTODIES) {
  describe.skipIf(!isHere)(`a seal by ${custody}`, () => {
    test("createKey() leaves nothing on the disk that opens without it, and a restart signs with the same key", () => {
      const stateDir = scratch();
      const keys = store(stateDir, custody);
      const key = keys.createKey("node");
      const { pkcs8 } = createKey();
      const secret = Buffer.from(pkcs8);
      keys.sealSecret("jwt", secret);
      expect(keys.custody).toBe(custody);
      expect(keys.list()).toEqual([
        { name: "jwt", sealed: true },
        { name: "node", sealed: true },
      ]);
      expect(works(stateDir, "node", key.publicKey)).toBe(true);
      expect(Buffer.from(store(stateDir).openSecret("jwt"))).toEqual(secret);
      const scalar = scalarOf(secret) as Uint8Array;
      for (const name of files(stateDir)) {
        const path = join(stateDir, "ca", name);
        expect(readFileSync(path).includes(scalar)).toBe(false);
        expect(statSync(path).mode & 0o777).toBe(0o600);
      }
      expect(custodyWarnings(keys)).toEqual([]);
    });

    test("openKey() shows the public key without opening the seal", () => {
      const stateDir = scratch();
      const { publicKey } = store(stateDir, custody).createKey("node");
      const key = store(stateDir, "file", BARE).openKey("node");
      expect(key.publicKey).toEqual(publicKey);
      expect(() => key.sign(MESSAGE)).toThrow(RiprapError);
    });

    test("hold() opens the seal once for everything until it is let go", () => {
      const stateDir = scratch();
      const { publicKey } = store(stateDir, custody).createKey("node");
      let on = ground();
      const keys = openKeyStore(stateDir, {
        ground: {
          openTpm: () => on.openTpm(),
          systemd: { directory: undefined, run: (...call) => on.systemd.run?.(...call) as never },
        },
      });
      const release = keys.hold();
      on = BARE;
      expect(keys.openKey("node").sign(MESSAGE).length).toBeGreaterThan(60);
      release();
      on = {
        openTpm: noTpm,
        systemd: { directory: undefined, run: () => ({ ok: false, output: new Uint8Array(), said: "no" }) },
      };
      expect(code(() => keys.openSecret("node"))).toMatch(/^(tpm|credential)_/);
      expect(works(stateDir, "node", publicKey)).toBe(true);
    });

    test("openSecret() refuses a file under another name, a byte that was changed, and the file of another seal", () => {
      const stateDir = scratch();
      const keys = store(stateDir, custody);
      keys.sealSecret("one", Buffer.from("a secret"));
      const path = join(stateDir, "ca", "one.key");
      const good = readFileSync(path);
      writeFileSync(join(stateDir, "ca", "two.key"), good, { mode: 0o600 });
      expect(code(() => keys.openSecret("two"))).toBe("ca_key_invalid");
      const release = keys.hold();
      for (let at = 8; at < good.length; at += 1) {
        const bad = Buffer.from(good);
        bad[at] = (bad[at] as number) ^ 1;
        writeFileSync(path, bad);
        expect(code(() => keys.openSecret("one"))).toMatch(/^(ca_key_invalid|seal_missing)$/);
      }
      release();
      const other = scratch();
      store(other, custody).sealSecret("one", Buffer.from("another"));
      cpSync(join(other, "ca", "one.key"), path);
      expect(code(() => keys.openSecret("one"))).toBe("seal_missing");
    });

    test("moveCustody() takes every key there and back, and leaves the same keys", () => {
      const stateDir = scratch();
      const keys = store(stateDir);
      const node = keys.createKey("node").publicKey;
      const rootKey = keys.createKey("root").publicKey;
      keys.sealSecret("jwt", Buffer.from("a secret"));
      expect(custodyWarnings(keys)[0]).toContain("whoever copies the disk can use");
      expect(moveCustody(stateDir, custody, ground())).toEqual({ from: "file", to: custody, moved: 3 });
      expect(files(stateDir)).toEqual(
        ["jwt.key", "node.key", "root.key", ...(custody === "systemd" ? ["seal.cred"] : []), "seal.json"].sort(),
      );
      expect(keys.list().every(({ sealed }) => sealed)).toBe(true);
      expect([works(stateDir, "node", node), works(stateDir, "root", rootKey)]).toEqual([true, true]);
      expect(moveCustody(stateDir, custody, ground())).toEqual({ from: custody, to: custody, moved: 0 });
      expect(moveCustody(stateDir, "file", ground())).toEqual({ from: custody, to: "file", moved: 3 });
      expect(files(stateDir)).toEqual(["jwt.key", "node.key", "root.key"]);
      expect(works(stateDir, "node", node, BARE)).toBe(true);
      expect(Buffer.from(keys.openSecret("jwt")).toString()).toBe("a secret");
    });

    test("a key that is put back in the open beside the seal works, is warned of, and is sealed when asked", () => {
      const stateDir = scratch();
      const keys = store(stateDir, custody);
      const { publicKey } = keys.createKey("root");
      const out = join(stateDir, "out.key");
      exportKey(keys, { name: "root", file: out, remove: true });
      expect([keys.has("root"), statSync(out).mode & 0o777]).toEqual([false, 0o600]);
      expect(code(() => exportKey(keys, { name: "root", file: out, remove: false }))).toBe("key_unknown");
      cpSync(out, join(stateDir, "ca", "root.key"));
      expect(code(() => exportKey(keys, { name: "root", file: out, remove: false }))).toBe("file_exists");
      expect(works(stateDir, "root", publicKey)).toBe(true);
      expect(custodyWarnings(keys)[0]).toContain("ca/root.key lies open");
      expect(moveCustody(stateDir, custody, ground()).moved).toBe(1);
      expect(custodyWarnings(keys)).toEqual([]);
      expect(works(stateDir, "root", publicKey)).toBe(true);
    });

    test("moveCustody() loses no key when it is cut off before any of its steps, and goes on when it is asked again", async () => {
      const stateDir = scratch();
      const keys = store(stateDir);
      const points = ["node", "root"].map((name) => [name, keys.createKey(name).publicKey] as const);
      // A copy after each change that a step makes on the disk: what a crash between two steps leaves.
      const states = await statesDuring(stateDir, custody);
      expect(states.length).toBeGreaterThan(4);
      for (const state of states) {
        for (const [name, point] of points) expect(works(state, name, point)).toBe(true);
        moveCustody(state, custody, ground());
        for (const [name, point] of points) expect(works(state, name, point)).toBe(true);
        expect(files(state).filter((name) => name.includes("next") || name.endsWith(".tmp"))).toEqual([]);
      }
      const back = await statesDuring(states.at(-1) as string, "file");
      for (const state of back) {
        for (const [name, point] of points) expect(works(state, name, point)).toBe(true);
        moveCustody(state, "file", ground());
        for (const [name, point] of points) expect(works(state, name, point, BARE)).toBe(true);
      }
    });
  });
}

test("moveCustody() loses no key when the disk is full at any of its writes", () => {
  const stateDir = scratch();
  const keys = store(stateDir, HAS_SWTPM ? "tpm" : "file");
  const points = ["node", "root"].map((name) => [name, keys.createKey(name).publicKey] as const);
  const real = fs.writeSync;
  for (const to of ["file", ...(HAS_SWTPM ? (["tpm"] as const) : [])] as const) {
    for (let full = 1, failed = true; failed; full += 1) {
      let writes = 0;
      const spy = spyOn(fs, "writeSync").mockImplementation(((...words: never[]) => {
        writes += 1;
        if (writes === full) throw Object.assign(new Error("ENOSPC: no space left on device"), { code: "ENOSPC" });
        return (real as (...words: never[]) => number)(...words);
      }) as never);
      try {
        moveCustody(stateDir, to, ground());
        failed = false;
      } catch (thrown) {
        expect((thrown as Error).message).toContain("ENOSPC");
      } finally {
        spy.mockRestore();
      }
      for (const [name, point] of points) expect(works(stateDir, name, point)).toBe(true);
      expect(files(stateDir).filter((name) => name.endsWith(".tmp"))).toEqual([]);
    }
    expect(keys.custody).toBe(to);
  }
}, 30_000);

/** A state directory for each state that the files are in while custody changes, the last being the end. */
async function statesDuring(stateDir: string, to: CustodySetting): Promise<string[]> {
  const states: string[] = [];
  const seen = new Set<string>();
  const keep = () => {
    const listing = files(stateDir).filter((name) => !name.endsWith(".tmp") && name !== "seal.lock");
    const digest = listing.map((name) => `${name} ${Bun.hash(readFileSync(join(stateDir, "ca", name)))}`).join("\n");
    if (seen.has(digest)) return;
    seen.add(digest);
    const copy = scratch();
    for (const name of listing) cpSync(join(stateDir, "ca", name), join(copy, "ca", name));
    states.push(copy);
  };
  keep();
  const { fsyncSync, unlinkSync, renameSync } = fs;
  const spies = Object.entries({ fsyncSync, unlinkSync, renameSync }).map(([name, call]) => {
    const real = call as (...words: never[]) => void;
    return spyOn(fs, name as "fsyncSync").mockImplementation(((...words: never[]) => {
      real(...words);
      keep();
    }) as never);
  });
  try {
    moveCustody(stateDir, to, ground());
  } finally {
    for (const spy of spies) spy.mockRestore();
  }
  keep();
  return states;
}

describe.skipIf(!HAS_SWTPM || !HAS_SYSTEMD_CREDS)("a change from one seal to another", () => {
  test("moveCustody() goes from systemd to tpm and back through `auto`, with a new seal each time", () => {
    const stateDir = scratch();
    const keys = store(stateDir, "systemd");
    const { publicKey } = keys.createKey("node");
    const before = readFileSync(join(stateDir, "ca", "seal.json"), "utf8");
    expect(moveCustody(stateDir, "auto", ground())).toEqual({ from: "systemd", to: "tpm", moved: 1 });
    expect(files(stateDir)).toEqual(["node.key", "seal.json"]);
    expect(works(stateDir, "node", publicKey)).toBe(true);
    expect(moveCustody(stateDir, "auto", ground()).moved).toBe(0);
    expect(moveCustody(stateDir, "systemd", ground()).to).toBe("systemd");
    const after = readFileSync(join(stateDir, "ca", "seal.json"), "utf8");
    expect(parseRecord(after).id).not.toEqual(parseRecord(before).id);
    expect(works(stateDir, "node", publicKey)).toBe(true);
  });
});

describe("a seal that cannot be opened", () => {
  test.skipIf(!HAS_SWTPM)(
    "openSecret() says so and what to do when the TPM was cleared, is another, or is gone",
    async () => {
      const stateDir = scratch();
      const own = await startSwtpm();
      const keys = store(stateDir, "tpm", { ...ground(), openTpm: own.open });
      keys.createKey("node");
      expect(code(() => store(stateDir).openSecret("node"))).toBe("tpm_refused");
      own.clear();
      expect(() => keys.openSecret("node")).toThrow(
        /of another TPM, or this one was cleared since.*enrol this node again/,
      );
      await own.stop();
      expect(code(() => store(stateDir, "file", BARE).openSecret("node"))).toBe("tpm_unusable");
      expect(code(() => moveCustody(stateDir, "file", BARE))).toBe("tpm_unusable");
      expect(keys.list()).toEqual([{ name: "node", sealed: true }]);
    },
  );

  test.skipIf(!HAS_SYSTEMD_CREDS)(
    "openSecret() takes the unit's credential, and refuses one that is missing, stale or of another host",
    () => {
      const stateDir = scratch();
      const { publicKey } = store(stateDir, "systemd").createKey("node");
      const unit = mkdtempSync(join(root, "unit-"));
      const sealed = readFileSync(join(stateDir, "ca", "seal.cred"));
      const opened = systemdOf(root).run?.(["decrypt", "--name=riprap-seal", "-", "-"], sealed);
      const asUnit: SealGround = { openTpm: noTpm, systemd: { directory: unit, run: undefined } };
      expect(code(() => store(stateDir, "file", asUnit).openSecret("node"))).toBe("credential_missing");
      writeFileSync(join(unit, "riprap-seal"), "none");
      expect(code(() => store(stateDir, "file", asUnit).openSecret("node"))).toBe("credential_missing");
      writeFileSync(join(unit, "riprap-seal"), opened?.output as Uint8Array);
      expect(works(stateDir, "node", publicKey, asUnit)).toBe(true);
      writeFileSync(join(unit, "riprap-seal"), "0".repeat(64));
      expect(code(() => store(stateDir, "file", asUnit).openSecret("node"))).toBe("credential_missing");
      expect(works(stateDir, "node", publicKey, { ...asUnit, systemd: { ...systemdOf(root), directory: unit } })).toBe(
        true,
      );
      const elsewhere = mkdtempSync(join(root, "host-"));
      expect(() =>
        store(stateDir, "file", { openTpm: noTpm, systemd: systemdOf(elsewhere) }).openSecret("node"),
      ).toThrow(/systemd-creds says.*on the machine that made the seal/s);
    },
  );

  test("createKey() takes a file where nothing better is there and `auto` is asked for, and refuses where it was named", () => {
    const stateDir = scratch();
    const { publicKey } = store(stateDir, "auto", BARE).createKey("node");
    expect(files(stateDir)).toEqual(["node.key"]);
    expect(works(stateDir, "node", publicKey, BARE)).toBe(true);
    for (const custody of ["tpm", "systemd"] as const) {
      expect(code(() => store(scratch(), custody, BARE).createKey("node"))).toBe("custody_unavailable");
      expect(code(() => moveCustody(stateDir, custody, BARE))).toBe("custody_unavailable");
    }
    expect(code(() => moveCustody(stateDir, "auto", BARE))).toBe("custody_unavailable");
    expect(works(stateDir, "node", publicKey, BARE)).toBe(true);
  });

  test("moveCustody() takes over from one that is gone, and gives up after two seconds on one that is not", () => {
    const stateDir = scratch();
    store(stateDir).createKey("node");
    const lock = join(stateDir, "ca", "seal.lock");
    fs.symlinkSync("4194304999", lock);
    expect(moveCustody(stateDir, "file", BARE).to).toBe("file");
    expect(files(stateDir)).toEqual(["node.key"]);
    fs.symlinkSync("1", lock);
    expect(code(() => moveCustody(stateDir, "file", BARE))).toBe("custody_busy");
    fs.unlinkSync(lock);
  }, 20_000);
});

describe("seal.json", () => {
  const GOOD = { version: 1, custody: "tpm", id: "00".repeat(16), public: "AAAA", private: "AAAA" };
  const bad: [string, unknown][] = [
    ["no JSON", "{"],
    ["no object", []],
    ["another version", { ...GOOD, version: 2 }],
    ["an id that is too short", { ...GOOD, id: "00" }],
    ["another custody", { ...GOOD, custody: "file" }],
    ["no private part", { ...GOOD, private: undefined }],
    ["base64 that is not its own", { ...GOOD, private: "AAA" }],
    ["a part without end", { ...GOOD, private: "AAAA".repeat(5000) }],
    ["a credential that is missing", { ...GOOD, custody: "systemd" }],
  ];
  test.each(bad)("openKeyStore() refuses %s with seal_invalid", (_what, value) => {
    const stateDir = scratch();
    const text = typeof value === "string" ? value : JSON.stringify(value);
    writeFileSync(join(stateDir, "ca", "seal.json"), text, { mode: 0o600 });
    expect(code(() => store(stateDir, "file", BARE).hold())).toBe("seal_invalid");
    expect(code(() => store(stateDir, "file", BARE).createKey("node"))).toBe("seal_invalid");
  });

  test("parseRecord() throws nothing but Error on seeded noise", () => {
    const next = random(7);
    const text = JSON.stringify(GOOD);
    for (let round = 0; round < 2000; round += 1) {
      const bytes = Buffer.from(text);
      for (let i = draw(next, 4); i >= 0; i -= 1) bytes[draw(next, bytes.length)] = draw(next, 256);
      try {
        parseRecord(bytes.subarray(0, draw(next, bytes.length + 1)).toString("latin1"));
      } catch (thrown) {
        expect(thrown).toBeInstanceOf(Error);
      }
    }
  });
});

describe("keys in a module", () => {
  /** A module in this process: what it was given, what it signs with, and what it does not take. */
  class FakeModule implements KeyModule {
    readonly keys = new Map<number, Uint8Array>();
    broken = false;

    import(privateKey: Uint8Array) {
      if (this.broken) throw new RiprapError("ENOSPC", "no room");
      const slot = this.keys.size;
      const ecdh = createECDH("prime256v1");
      ecdh.setPrivateKey(privateKey);
      this.keys.set(slot, Uint8Array.from(privateKey));
      privateKey.fill(0);
      return { slot, publicKey: new Uint8Array(ecdh.getPublicKey()) };
    }

    sign(slot: number, digest: Uint8Array): Uint8Array {
      if (this.broken || !this.keys.has(slot)) throw new RiprapError("ENOKEY", "no such key");
      return p256.sign(digest, this.keys.get(slot) as Uint8Array, { prehash: false, format: "der" });
    }

    forget(slot: number): void {
      this.keys.delete(slot);
    }
  }

  test("attach() moves keys that sign into the module, detach() opens them again, close() forgets them", () => {
    const stateDir = scratch();
    const keys = store(stateDir, "file", BARE);
    const key = keys.createKey("node");
    const other = keys.createKey("root");
    const check = () => verify("sha256", MESSAGE, keyOfPoint(key.publicKey) as never, key.sign(MESSAGE));
    expect([check(), key.custody]).toEqual([true, "file"]);
    const module = new FakeModule();
    expect(keys.attach(module)).toEqual([]);
    expect([module.keys.size, key.custody, other.custody]).toEqual([1, "kernel", "kernel"]);
    expect([check(), check(), module.keys.size]).toEqual([true, true, 1]);
    keys.detach();
    expect([check(), key.custody]).toEqual([true, "file"]);
    const again = new FakeModule();
    keys.attach(again);
    expect([check(), again.keys.size]).toEqual([true, 1]);
    key.close();
    expect(again.keys.size).toBe(0);
    expect(() => key.sign(MESSAGE)).toThrow(TypeError);
  });

  test("sign() goes on in this process when the module has no room or loses the key, and says so by its custody", () => {
    const keys = store(scratch(), "file", BARE);
    const key = keys.createKey("node");
    const module = new FakeModule();
    module.broken = true;
    keys.attach(module);
    expect(key.sign(MESSAGE).length).toBeGreaterThan(60);
    expect(key.custody).toBe("file");
    module.broken = false;
    const second = keys.openKey("node");
    second.sign(MESSAGE);
    expect(second.custody).toBe("kernel");
    module.keys.clear();
    expect(verify("sha256", MESSAGE, keyOfPoint(key.publicKey) as never, second.sign(MESSAGE))).toBe(true);
    expect(second.custody).toBe("file");
    keys.detach();
    module.broken = true;
    key.sign(MESSAGE);
    expect(keys.attach(module).map((error) => (error as RiprapError).code)).toEqual(["ENOSPC", "ENOSPC"]);
  });
});
