// Turns the errno of a refused module into what is the matter on this machine and what to do about it. One sentence a cause.

import { RiprapError } from "../../error.ts";
import { asAdvice } from "./build.ts";
import { adviseOnPackages } from "./distribution.ts";
import { hasKtls, hasModuleSupport, isContainer, isModulesDisabled, lockdownOf } from "./fact.ts";
import type { Machine } from "./machine.ts";
import type { ModuleInfo } from "./module_info.ts";

interface Cause {
  readonly code: string;
  readonly fact: string;
  readonly remedy: string;
}

/** The sentence for a finit_module that failed with `errno` (as `EPERM`). */
export function explainLoadFailure(
  machine: Machine,
  input: { errno: string; path: string; info: ModuleInfo; log: string },
): RiprapError {
  const { code, fact, remedy } = causeOf(machine, input);
  return new RiprapError(code, `Cannot load the module ${input.path}: ${fact}; ${remedy}`);
}

function causeOf(machine: Machine, input: { errno: string; info: ModuleInfo; log: string }): Cause {
  switch (input.errno) {
    case "EPERM":
      return forbidden(machine);
    case "ENOEXEC":
      return wrongKernel(machine, input.info);
    case "EKEYREJECTED":
    case "ENOKEY":
    case "EBADMSG":
      return badSignature(input.info);
    case "EEXIST":
      return {
        code: "kernel_loaded",
        fact: "a riprap module is loaded already",
        remedy: 'to change it, run "riprap kernel unload" first',
      };
    case "ENOSYS":
      return noModules();
    case "ENOENT":
      return missingSymbol(machine, input.log);
    default:
      return unexplained(machine, input);
  }
}

function forbidden(machine: Machine): Cause {
  if (!hasModuleSupport(machine)) return noModules();
  if (isModulesDisabled(machine)) {
    return {
      code: "kernel_modules_disabled",
      fact: "loading of modules was turned off until the next boot (kernel.modules_disabled=1)",
      remedy: "load riprap before whatever sets it, and boot again",
    };
  }
  const lockdown = lockdownOf(machine);
  if (lockdown !== "none") return lockedDown(lockdown);
  if (isContainer(machine)) {
    return {
      code: "kernel_forbidden",
      fact: "this is a container without CAP_SYS_MODULE",
      remedy: "load the module on the host, and give the container /dev/riprap",
    };
  }
  return { code: "kernel_forbidden", fact: "that takes CAP_SYS_MODULE", remedy: "run this as root (sudo)" };
}

export function lockedDown(level: string): Cause {
  return {
    code: "kernel_lockdown",
    fact: `the kernel is locked down (${level}), as under Secure Boot, and takes only signed modules`,
    remedy:
      'sign riprap.ko with a key that the machine trusts (mokutil --import) and load it with "riprap kernel load --file", or turn Secure Boot off',
  };
}

export function noModules(): Cause {
  return {
    code: "kernel_no_modules",
    fact: "this kernel has no support for modules (no /proc/modules)",
    remedy: "boot a kernel with CONFIG_MODULES; until then riprap runs in the identity plane, which enforces nothing",
  };
}

function badSignature(info: ModuleInfo): Cause {
  return {
    code: "kernel_signature",
    fact: info.isSigned
      ? "its signature is of no key that the kernel trusts"
      : "it is not signed, and this kernel takes only signed modules",
    remedy:
      'sign it with a trusted key (scripts/sign-file of the headers, mokutil --import) and load it with "riprap kernel load --file", or boot without module.sig_enforce',
  };
}

function wrongKernel(machine: Machine, info: ModuleInfo): Cause {
  const other = info.release !== undefined && info.release !== machine.release;
  return {
    code: "kernel_vermagic",
    fact: other
      ? `it was built for kernel ${info.release}, and ${machine.release} is running`
      : "the kernel does not take its format (other headers, or another architecture)",
    remedy: `run "riprap kernel build --force" with the headers of ${machine.release} (${adviseOnPackages(machine).headers})`,
  };
}

export function noKtls(machine: Machine): Cause {
  return {
    code: "kernel_no_ktls",
    fact: "this kernel has no kTLS (CONFIG_TLS)",
    remedy: `boot a kernel with CONFIG_TLS=m or y, as Debian's and Ubuntu's own are; a cut-down one may have it in a package of extra modules of ${machine.release}`,
  };
}

function missingSymbol(machine: Machine, log: string): Cause {
  const symbol = /riprap: Unknown symbol ([A-Za-z0-9_]+)/.exec(log)?.[1];
  if (!hasKtls(machine)) return noKtls(machine);
  return {
    code: "kernel_symbol",
    fact: symbol === undefined ? "the kernel lacks a symbol that it needs" : `the kernel lacks the symbol ${symbol}`,
    remedy:
      machine.which("modprobe") === undefined
        ? `${asAdvice(adviseOnPackages(machine).kmod)}, so that what it depends on can be loaded`
        : 'run "riprap doctor", and "riprap kernel build --force" after a kernel update',
  };
}

function unexplained(machine: Machine, input: { errno: string; log: string }): Cause {
  if (!hasKtls(machine)) return noKtls(machine);
  const said = input.log
    .split("\n")
    .filter((line) => /riprap[:\s]/.test(line))
    .at(-1)
    ?.replace(/^<\d+>|^\[[^\]]*\]\s*/g, "")
    .trim();
  return {
    code: "kernel_load_failed",
    fact:
      said === undefined
        ? `the kernel answered ${input.errno}`
        : `the kernel answered ${input.errno} and says "${said}"`,
    remedy: 'see "dmesg" and "riprap doctor"',
  };
}
