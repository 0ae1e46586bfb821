// Building, loading and unloading the module on machines that lack one thing each, and what is said of it.

import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseModuleInfo } from "../../src/daemon/kernel/module_info.ts";
import { openKernelModule } from "../../src/daemon/kernel.ts";
import type { RiprapError } from "../../src/error.ts";
import { type FakeMachineOptions, fakeMachine, RELEASE } from "./kernel/fake_machine.ts";

const SOURCE = { Kbuild: "obj-m := riprap.o\n", "main.c": "int x;\n", "tls13/record.c": "int y;\n" };
const MODULE_TEXT = `\x7fELF\0vermagic=${RELEASE} SMP mod_unload \0depends=tls,ecc\0version=0.1.0\0`;
let folder: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "riprap-kernel-"));
});

afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** A machine whose make leaves a module behind, and which sees the files of the real disk below `folder`. */
function open(options: FakeMachineOptions = {}) {
  const make = (command: readonly string[]) => {
    const work = command.find((word) => word.startsWith("M="))?.slice(2) ?? "";
    writeFileSync(join(work, "riprap.ko"), MODULE_TEXT);
    return { code: 0, output: "CC main.o\n" };
  };
  const machine = fakeMachine({ make, ...options });
  const exists = machine.exists;
  machine.exists = (path) => (path.startsWith(folder) ? existsSync(path) : exists(path));
  return { machine, module: openKernelModule(machine, { cacheDir: join(folder, "cache"), source: SOURCE }) };
}

function refusal(work: Promise<unknown>): Promise<RiprapError> {
  return work.then(
    () => {
      throw new Error("it was not refused");
    },
    (thrown) => thrown as RiprapError,
  );
}

describe("build", () => {
  test("build() unpacks the source, makes the module once, and keeps it with its log", async () => {
    const { machine, module } = open();
    const built = await module.build();
    expect(built.cached).toBe(false);
    expect(readFileSync(built.path, "latin1")).toBe(MODULE_TEXT);
    expect(readFileSync(built.log, "utf8")).toBe("CC main.o\n");
    expect(machine.calls.filter((call) => call.startsWith("make"))).toHaveLength(1);
    expect(machine.calls[0]).toStartWith(`make -C /lib/modules/${RELEASE}/build M=`);
    expect(await module.build()).toMatchObject({ cached: true, path: built.path });
    expect(machine.calls).toHaveLength(1);
    expect(readdirSync(join(folder, "cache", RELEASE))).toEqual([built.digest]);
  });

  test("build() makes another module for another source, and drops the one before", async () => {
    const { machine, module } = open();
    const before = await module.build();
    const other = openKernelModule(machine, {
      cacheDir: join(folder, "cache"),
      source: { ...SOURCE, "main.c": "int z;\n" },
    });
    const after = await other.build();
    expect(after.digest).not.toBe(before.digest);
    expect(existsSync(before.path)).toBe(false);
  });

  test.each([
    ["debian", `apt-get install linux-headers-${RELEASE}`],
    ["ubuntu", `apt-get install linux-headers-${RELEASE}`],
    ["fedora", `dnf install kernel-devel-${RELEASE}`],
    ['rocky\nID_LIKE="rhel centos fedora"', `dnf install kernel-devel-${RELEASE}`],
    ["arch", "pacman -S linux-headers"],
    ["alpine", "apk add linux-amd64-dev"],
    ["unheard-of", `install the package with the headers of kernel ${RELEASE}`],
  ])("build() without headers names the package on %s", async (id, advice) => {
    const { module } = open({
      files: { [`/lib/modules/${RELEASE}/build/Makefile`]: undefined, "/etc/os-release": `ID=${id}\n` },
    });
    const thrown = await refusal(module.build());
    expect(thrown.code).toBe("kernel_no_headers");
    expect(thrown.message).toContain(advice);
  });

  test("build() without make or compiler says which package has it", async () => {
    expect(await refusal(open({ programs: ["gcc"] }).module.build())).toMatchObject({ code: "kernel_no_make" });
    const thrown = await refusal(open({ programs: ["make"] }).module.build());
    expect(thrown.code).toBe("kernel_no_compiler");
    expect(thrown.message).toContain("apt-get install build-essential");
  });

  test("build() says which numbered compiler the headers ask for when make does not find it", async () => {
    const make = () => ({
      code: 2,
      output: "make[1]: Entering directory\n/bin/sh: 1: x86_64-linux-gnu-gcc-12: not found\nmake: *** Error 127\n",
    });
    const thrown = await refusal(open({ make }).module.build());
    expect(thrown.code).toBe("kernel_no_compiler");
    expect(thrown.message).toContain("gcc-12");
  });

  test("build() shows the first error and keeps the whole log when the source does not compile", async () => {
    const make = () => ({
      code: 2,
      output: "CC main.o\nmain.c:3:1: error: unknown type name 'u128'\nmain.c:4:1: error: another\n",
    });
    const thrown = await refusal(open({ make }).module.build());
    expect(thrown.code).toBe("kernel_build_failed");
    expect(thrown.message).toContain("main.c:3:1: error: unknown type name 'u128'");
    const log = /the whole log is in (\S+)/.exec(thrown.message)?.[1] ?? "";
    expect(readFileSync(log, "utf8")).toContain("error: another");
    expect(readdirSync(join(folder, "cache", RELEASE))).toEqual(["failed.log"]);
  });

  test("build() says where it cannot write", async () => {
    writeFileSync(join(folder, "cache"), "a file in the way");
    const thrown = await refusal(open().module.build());
    expect(thrown.code).toBe("kernel_cache");
    expect(thrown.message).toContain("--cache");
  });

  test("build() and load() refuse a cache that another user could have written", async () => {
    const owners = { [join(folder, "cache")]: { uid: 1000, mode: 0o755 } };
    expect(await refusal(open({ owners }).module.build())).toMatchObject({ code: "kernel_cache" });
    const { module } = open();
    await module.build();
    const writable = { [join(folder, "cache", RELEASE)]: { uid: 0, mode: 0o777 } };
    expect(await refusal(open({ owners: writable }).module.load())).toMatchObject({ code: "kernel_cache" });
  });
});

describe("load", () => {
  test("load() brings in what the module needs first, by modprobe", async () => {
    const { machine, module } = open();
    const { path } = await module.load();
    expect(machine.calls.slice(1)).toEqual([
      "/usr/bin/modprobe -q tls",
      "/usr/bin/modprobe -q ecc",
      "/usr/bin/modprobe -q chacha20poly1305",
      "/usr/bin/modprobe -q libcurve25519",
      `finit_module ${path}`,
    ]);
  });

  test("load() loads dependencies in their order itself where there is no modprobe", async () => {
    const { machine, module } = open({ programs: ["make", "gcc"] });
    const { path } = await module.load();
    const root = `/lib/modules/${RELEASE}/kernel`;
    expect(machine.calls.slice(1)).toEqual([
      `finit_module ${root}/net/tls/tls.ko`,
      `finit_module ${root}/crypto/ecc.ko`,
      `finit_module ${root}/crypto/chacha20poly1305.ko`,
      `finit_module ${root}/lib/crypto/libcurve25519-generic.ko`,
      `finit_module ${root}/lib/crypto/libcurve25519.ko`,
      `finit_module ${path}`,
    ]);
  });

  test("load() takes a file that was made elsewhere, and builds nothing", async () => {
    const { machine, module } = open();
    const file = join(folder, "signed.ko");
    writeFileSync(file, MODULE_TEXT);
    await module.load({ file });
    expect(machine.calls.some((call) => call.startsWith("make"))).toBe(false);
    expect(machine.calls.at(-1)).toBe(`finit_module ${file}`);
    expect(await refusal(module.load({ file: join(folder, "none.ko") }))).toMatchObject({ code: "not_found" });
  });

  test.each<[string, string, FakeMachineOptions, RegExp]>([
    ["kernel_forbidden", "without the capability", { loadErrno: "EPERM" }, /CAP_SYS_MODULE; run this as root/],
    [
      "kernel_forbidden",
      "in a container",
      { loadErrno: "EPERM", files: { "/.dockerenv": "" } },
      /container.*load the module on the host/,
    ],
    [
      "kernel_lockdown",
      "under lockdown",
      { loadErrno: "EPERM", files: { "/sys/kernel/security/lockdown": "none [integrity] confidentiality\n" } },
      /locked down \(integrity\).*mokutil/,
    ],
    [
      "kernel_modules_disabled",
      "when loading was turned off",
      { loadErrno: "EPERM", files: { "/proc/sys/kernel/modules_disabled": "1\n" } },
      /until the next boot/,
    ],
    ["kernel_signature", "of no trusted key", { loadErrno: "EKEYREJECTED" }, /signed.*sign-file/],
    ["kernel_signature", "that is not signed", { loadErrno: "ENOKEY" }, /not signed/],
    ["kernel_vermagic", "of other headers", { loadErrno: "ENOEXEC" }, /kernel build --force/],
    ["kernel_loaded", "that is there", { loadErrno: "EEXIST" }, /kernel unload/],
    ["kernel_no_modules", "on a kernel without the call", { loadErrno: "ENOSYS" }, /CONFIG_MODULES.*identity plane/],
    [
      "kernel_no_modules",
      "on a kernel without modules",
      { files: { "/proc/modules": undefined } },
      /no \/proc\/modules/,
    ],
    [
      "kernel_symbol",
      "that lacks a symbol",
      { loadErrno: "ENOENT", logged: "[1.0] riprap: Unknown symbol tls_x (err -2)\n" },
      /lacks the symbol tls_x/,
    ],
    [
      "kernel_symbol",
      "that lacks one, without modprobe",
      { loadErrno: "ENOENT", programs: ["make", "gcc"] },
      /apt-get install kmod/,
    ],
    [
      "kernel_no_ktls",
      "on a kernel without kTLS",
      { loadErrno: "ENOENT", files: { [`/boot/config-${RELEASE}`]: "", [`/lib/modules/${RELEASE}/modules.dep`]: "" } },
      /CONFIG_TLS/,
    ],
    [
      "kernel_load_failed",
      "for another reason",
      { loadErrno: "ENOMEM", logged: "[    9.1] riprap: no memory for the table\n" },
      /ENOMEM and says "riprap: no memory for the table"/,
    ],
  ])("load() answers %s for a module %s", async (code, _when, options, sentence) => {
    const thrown = await refusal(open(options).module.load());
    expect(thrown.code).toBe(code);
    expect(thrown.message).toStartWith("Cannot load the module");
    expect(thrown.message).toMatch(sentence);
  });

  test("load() says for which kernel a foreign module was built", async () => {
    const file = join(folder, "old", "riprap.ko");
    mkdirSync(join(folder, "old"));
    writeFileSync(file, MODULE_TEXT.replace(RELEASE, "5.10.0-9-amd64"));
    const thrown = await refusal(open({ loadErrno: "ENOEXEC" }).module.load({ file }));
    expect(thrown.code).toBe("kernel_vermagic");
    expect(thrown.message).toContain(`built for kernel 5.10.0-9-amd64, and ${RELEASE} is running`);
  });

  test("load() refuses a second time what is loaded", async () => {
    expect(await refusal(open({ files: { "/sys/module/riprap/refcnt": "0\n" } }).module.load())).toMatchObject({
      code: "kernel_loaded",
    });
  });
});

describe("unload", () => {
  test("unload() removes the module, and refuses with what holds it", () => {
    const files = { "/sys/module/riprap/refcnt": "3\n" };
    const { machine, module } = open({ files });
    module.unload();
    expect(machine.calls).toEqual(["delete_module riprap"]);
    expect(() => open({ files, unloadErrno: "EAGAIN" }).module.unload()).toThrow(/3 live sockets hold it/);
    expect(() => open({ files, unloadErrno: "EPERM" }).module.unload()).toThrow(/run this as root/);
    expect(() => open().module.unload()).toThrow(/it is not loaded/);
  });
});

describe("status and check", () => {
  test("status() tells built from loaded", async () => {
    const { module } = open({ files: { "/sys/module/riprap/refcnt": "2\n", "/sys/module/riprap/version": "0.1.0\n" } });
    expect(module.status()).toEqual({ release: RELEASE, loaded: true, version: "0.1.0", references: 2 });
    const { path } = await module.build();
    expect(module.status().built).toBe(path);
  });

  test("check() finds nothing to do on a healthy machine but to load", () => {
    const findings = open().module.check();
    expect(findings.filter((finding) => finding.level !== "ok").map((finding) => finding.check)).toEqual(["module"]);
  });

  test.each<[string, "warn" | "fail", FakeMachineOptions]>([
    ["kernel", "fail", { release: "5.4.0-1-amd64" }],
    ["architecture", "fail", { architecture: "riscv64" }],
    ["modules", "fail", { files: { "/proc/modules": undefined } }],
    ["modules", "fail", { files: { "/proc/sys/kernel/modules_disabled": "1" } }],
    ["lockdown", "fail", { files: { "/sys/kernel/security/lockdown": "none integrity [confidentiality]" } }],
    ["signature", "fail", { files: { "/sys/module/module/parameters/sig_enforce": "Y\n" } }],
    [
      "kTLS",
      "fail",
      {
        files: {
          [`/boot/config-${RELEASE}`]: "# CONFIG_TLS is not set\n",
          [`/lib/modules/${RELEASE}/modules.dep`]: "",
        },
      },
    ],
    [
      "crypto",
      "fail",
      { files: { [`/lib/modules/${RELEASE}/modules.builtin`]: "", [`/boot/config-${RELEASE}`]: "CONFIG_TLS=y\n" } },
    ],
    ["headers", "fail", { files: { [`/lib/modules/${RELEASE}/build/Makefile`]: undefined } }],
    ["build tools", "fail", { programs: [] }],
    ["rights", "warn", { files: { "/proc/self/status": "CapEff:\t0000000000000000\n" } }],
    ["rights", "fail", { files: { "/proc/self/status": "CapEff:\t0000000000000000\n", "/run/.containerenv": "" } }],
  ])("check() says %s is %s where it is, with a remedy", (check, level, options) => {
    const finding = open(options)
      .module.check()
      .find((candidate) => candidate.check === check);
    expect(finding?.level).toBe(level);
    expect(finding?.remedy).toBeString();
  });

  test("check() minds missing headers less when the module is built", async () => {
    const { machine, module } = open();
    await module.build();
    machine.files.delete(`/lib/modules/${RELEASE}/build/Makefile`);
    expect(module.check().find((finding) => finding.check === "headers")?.level).toBe("warn");
  });
});

describe("parseModuleInfo", () => {
  test("parseModuleInfo() reads vermagic, depends, version and the mark of a signature", () => {
    expect(parseModuleInfo(Buffer.from(MODULE_TEXT, "latin1"))).toEqual({
      release: RELEASE,
      depends: ["tls", "ecc"],
      version: "0.1.0",
      isSigned: false,
    });
    const signed = `${MODULE_TEXT}xx~Module signature appended~\n`;
    expect(parseModuleInfo(Buffer.from(signed, "latin1")).isSigned).toBe(true);
    expect(parseModuleInfo(Uint8Array.of())).toEqual({
      release: undefined,
      depends: [],
      version: undefined,
      isSigned: false,
    });
  });
});
