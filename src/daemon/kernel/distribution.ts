// Names the packages of the running distribution that hold kernel headers and the build tools.

import type { Machine } from "./machine.ts";

interface Family {
  readonly ids: readonly string[];
  headers(release: string): string;
  readonly tools: string;
  readonly kmod: string;
}

const FAMILIES: readonly Family[] = [
  {
    ids: ["raspbian", "debian", "ubuntu"],
    headers: (release) => `apt-get install linux-headers-${release}`,
    tools: "apt-get install build-essential",
    kmod: "apt-get install kmod",
  },
  {
    ids: ["fedora", "rhel", "centos"],
    headers: (release) => `dnf install kernel-devel-${release}`,
    tools: "dnf install gcc make elfutils-libelf-devel",
    kmod: "dnf install kmod",
  },
  {
    ids: ["opensuse", "suse", "opensuse-leap", "opensuse-tumbleweed"],
    headers: (release) => `zypper install kernel-${release.split("-").at(-1) ?? "default"}-devel`,
    tools: "zypper install gcc make libelf-devel",
    kmod: "zypper install kmod",
  },
  {
    ids: ["arch"],
    headers: () => "pacman -S linux-headers",
    tools: "pacman -S base-devel",
    kmod: "pacman -S kmod",
  },
  {
    ids: ["alpine"],
    headers: (release) => `apk add linux-${release.split("-").at(-1) ?? "lts"}-dev`,
    tools: "apk add build-base",
    kmod: "apk add kmod",
  },
];

export interface PackageAdvice {
  /** The command that installs the headers of this kernel release. */
  readonly headers: string;
  readonly tools: string;
  readonly kmod: string;
}

/** Advice for the distribution that /etc/os-release names, or in general words for one that we do not know. */
export function adviseOnPackages(machine: Machine, release = machine.release): PackageAdvice {
  const words = osReleaseIds(machine.read("/etc/os-release") ?? machine.read("/usr/lib/os-release") ?? "");
  const family = words
    .map((id) => FAMILIES.find((entry) => entry.ids.includes(id)))
    .find((entry) => entry !== undefined);
  if (family !== undefined) return { headers: family.headers(release), tools: family.tools, kmod: family.kmod };
  return {
    headers: `install the package with the headers of kernel ${release}`,
    tools: "install gcc and make",
    kmod: "install kmod",
  };
}

/** ID first, then what ID_LIKE says it is like. */
function osReleaseIds(text: string): string[] {
  const value = (key: string) => new RegExp(`^${key}="?([^"\n]*)"?$`, "m").exec(text)?.[1] ?? "";
  return `${value("ID")} ${value("ID_LIKE")}`.split(" ").filter((id) => id !== "");
}
