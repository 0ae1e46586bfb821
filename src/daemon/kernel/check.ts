// What `riprap doctor` says of this machine's kernel: an ordered list of checks, each one fact and what to do about it.

import { asAdvice, findCompiler, headersOf } from "./build.ts";
import { adviseOnPackages } from "./distribution.ts";
import {
  configOf,
  hasKtls,
  hasModule,
  hasModuleCapability,
  hasModuleSupport,
  isContainer,
  isModulesDisabled,
  isSignatureEnforced,
  lockdownOf,
  versionOf,
} from "./fact.ts";
import { lockedDown, noKtls, noModules } from "./failure.ts";
import type { Machine } from "./machine.ts";

/** `warn`: it works, with less. `fail`: the module cannot be built or loaded. */
export interface Finding {
  readonly check: string;
  readonly level: "ok" | "warn" | "fail";
  readonly fact: string;
  /** What to do; absent when there is nothing to do. */
  readonly remedy?: string;
}

/** What is known of a module that is ready to be loaded, so that missing build tools matter less. */
export interface CheckContext {
  readonly isBuilt: boolean;
}

type Check = (machine: Machine, context: CheckContext) => Finding;

/** The oldest kernel whose interfaces the module is written for. */
const OLDEST = [5, 15] as const;

const CHECKS: readonly Check[] = [
  checkRelease,
  checkArchitecture,
  checkModules,
  checkLockdown,
  checkSignature,
  checkKtls,
  checkCrypto,
  checkHeaders,
  checkTools,
  checkRights,
  checkModule,
];

export function checkKernel(machine: Machine, context: CheckContext): readonly Finding[] {
  return CHECKS.map((check) => check(machine, context));
}

function checkRelease({ release }: Machine): Finding {
  const [major, minor] = versionOf(release);
  if (major > OLDEST[0] || (major === OLDEST[0] && minor >= OLDEST[1])) return ok("kernel", `Linux ${release}`);
  const remedy = `boot Linux ${OLDEST.join(".")} or later`;
  return { check: "kernel", level: "fail", fact: `Linux ${release} is older than the module supports`, remedy };
}

function checkArchitecture({ architecture }: Machine): Finding {
  if (architecture === "x64" || architecture === "arm64") return ok("architecture", architecture);
  return {
    check: "architecture",
    level: "fail",
    fact: `${architecture} is not supported`,
    remedy: "use x86-64 or arm64",
  };
}

function checkModules(machine: Machine): Finding {
  if (!hasModuleSupport(machine)) return { check: "modules", level: "fail", ...withoutCode(noModules()) };
  if (!isModulesDisabled(machine)) return ok("modules", "this kernel loads modules");
  const remedy = "load riprap before whatever sets it, and boot again";
  return {
    check: "modules",
    level: "fail",
    fact: "loading was turned off until the next boot (kernel.modules_disabled=1)",
    remedy,
  };
}

function checkLockdown(machine: Machine): Finding {
  const level = lockdownOf(machine);
  if (level === "none") return ok("lockdown", "the kernel is not locked down");
  return { check: "lockdown", level: "fail", ...withoutCode(lockedDown(level)) };
}

function checkSignature(machine: Machine): Finding {
  if (isSignatureEnforced(machine) || configOf(machine, "CONFIG_MODULE_SIG_FORCE") === "y") {
    const remedy =
      'sign riprap.ko with a trusted key and load it with "riprap kernel load --file", or boot without module.sig_enforce';
    return { check: "signature", level: "fail", fact: "this kernel takes only signed modules", remedy };
  }
  return ok("signature", "unsigned modules are taken");
}

function checkKtls(machine: Machine): Finding {
  if (hasKtls(machine)) return ok("kTLS", "CONFIG_TLS is there");
  return { check: "kTLS", level: "fail", ...withoutCode(noKtls(machine)) };
}

function checkCrypto(machine: Machine): Finding {
  const has = (name: string, option: string) => hasModule(machine, name) || configOf(machine, option) === "y";
  const missing = [
    ...(has("ecc", "CONFIG_CRYPTO_ECC") ? [] : ["P-256 (CONFIG_CRYPTO_ECDH)"]),
    ...(has("libcurve25519", "CONFIG_CRYPTO_LIB_CURVE25519") || has("curve25519_x86_64", "CONFIG_CRYPTO_CURVE25519_X86")
      ? []
      : ["Curve25519 (CONFIG_CRYPTO_CURVE25519)"]),
    ...(has("gcm", "CONFIG_CRYPTO_GCM") ? [] : ["AES-GCM (CONFIG_CRYPTO_GCM)"]),
  ];
  if (missing.length > 0) {
    return {
      check: "crypto",
      level: "fail",
      fact: `this kernel lacks ${missing.join(", ")}`,
      remedy: "boot a kernel that has them, as distributions' own have",
    };
  }
  if (has("chacha20poly1305", "CONFIG_CRYPTO_CHACHA20POLY1305"))
    return ok("crypto", "P-256, Curve25519, AES-GCM and ChaCha20-Poly1305 are there");
  return {
    check: "crypto",
    level: "warn",
    fact: "this kernel lacks ChaCha20-Poly1305, so connections use AES-GCM alone",
    remedy: "boot a kernel with CONFIG_CRYPTO_CHACHA20POLY1305 where the processor has no AES instructions",
  };
}

function checkHeaders(machine: Machine, { isBuilt }: CheckContext): Finding {
  const folder = headersOf(machine.release);
  if (machine.exists(`${folder}/Makefile`)) return ok("headers", folder);
  const fact = `the headers of ${machine.release} are not in ${folder}`;
  return {
    check: "headers",
    level: isBuilt ? "warn" : "fail",
    fact,
    remedy: asAdvice(adviseOnPackages(machine).headers),
  };
}

function checkTools(machine: Machine, { isBuilt }: CheckContext): Finding {
  const make = machine.which("make");
  const compiler = findCompiler(machine);
  if (make !== undefined && compiler !== undefined) return ok("build tools", `${make}, ${compiler}`);
  const missing = [...(make === undefined ? ["make"] : []), ...(compiler === undefined ? ["C compiler"] : [])];
  const fact = `there is no ${missing.join(" and no ")}`;
  return {
    check: "build tools",
    level: isBuilt ? "warn" : "fail",
    fact,
    remedy: asAdvice(adviseOnPackages(machine).tools),
  };
}

function checkRights(machine: Machine): Finding {
  if (hasModuleCapability(machine)) return ok("rights", "this process may load modules (CAP_SYS_MODULE)");
  const fact = "this process may not load modules (no CAP_SYS_MODULE)";
  if (isContainer(machine))
    return {
      check: "rights",
      level: "fail",
      fact: `${fact}: it is in a container`,
      remedy: "load the module on the host",
    };
  return {
    check: "rights",
    level: "warn",
    fact,
    remedy: "run riprap as root (sudo); the checks above hold all the same",
  };
}

function checkModule(machine: Machine, { isBuilt }: CheckContext): Finding {
  const version = machine.read("/sys/module/riprap/version")?.trim();
  if (machine.exists("/sys/module/riprap")) return ok("module", `riprap ${version ?? ""} is loaded`.replace("  ", " "));
  if (isBuilt)
    return {
      check: "module",
      level: "warn",
      fact: "built, and not loaded",
      remedy: 'run "riprap kernel load", or "riprap run", which does',
    };
  return {
    check: "module",
    level: "warn",
    fact: "neither built nor loaded",
    remedy: 'run "riprap kernel load", or "riprap run", which does',
  };
}

function ok(check: string, fact: string): Finding {
  return { check, level: "ok", fact };
}

function withoutCode({ fact, remedy }: { fact: string; remedy: string }): { fact: string; remedy: string } {
  return { fact, remedy };
}
