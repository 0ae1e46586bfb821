// The commands of the machine: kernel build, load, unload, status, and doctor. They need no daemon.

import { openDeviceFile } from "../../daemon/device/file.ts";
import type { Finding } from "../../daemon/kernel/check.ts";
import { thisMachine } from "../../daemon/kernel/machine.ts";
import { openKernelModule } from "../../daemon/kernel.ts";
import { RiprapError } from "../../error.ts";
import { CONFIG_OPTION, type Command, JSON_OPTION, type Option } from "../command.ts";
import { checkNode } from "../doctor.ts";
import { indent } from "../grid.ts";
import type { Invocation } from "../invocation.ts";
import { show } from "../output.ts";
import { clientOf, configOf } from "../setting.ts";
import { unloadModule } from "../unload.ts";

const CACHE: Option = {
  name: "cache",
  value: "FOLDER",
  sentence: "Keep built modules in FOLDER instead of /var/cache/riprap.",
};

const build: Command = {
  words: ["kernel", "build"],
  group: "Machine",
  sentence: "Build the module against a kernel's headers, once per kernel and source.",
  arguments: [],
  options: [
    {
      name: "release",
      value: "RELEASE",
      sentence: "For this kernel (as in /lib/modules/RELEASE) instead of the running one.",
    },
    { name: "force", sentence: "Build even when it was built before." },
    CACHE,
    JSON_OPTION,
  ],
  example: "riprap kernel build --release 6.12.117+deb12-cloud-amd64",
  async run(invocation, terminal) {
    const release = invocation.option("release");
    if (release !== undefined && !/^[A-Za-z0-9][A-Za-z0-9._+~-]*$/.test(release)) {
      throw new RiprapError(
        "invalid",
        `Cannot build for kernel "${release}": that is no kernel release; "ls /lib/modules" lists those that are installed`,
      );
    }
    const built = await moduleOf(invocation).build({
      ...(release === undefined ? {} : { release }),
      force: invocation.has("force"),
    });
    show(built, { invocation, terminal }, (answer) => [
      `${answer.path} (kernel ${answer.release}, source ${answer.digest}${answer.cached ? ", built before" : ""})`,
    ]);
    return 0;
  },
};

const load: Command = {
  words: ["kernel", "load"],
  group: "Machine",
  sentence: "Load the module, building it first when needed.",
  arguments: [],
  options: [
    { name: "file", value: "FILE", sentence: "Load FILE, as one that was signed or built elsewhere." },
    { name: "keep", sentence: "Be content with a module that is loaded already." },
    CACHE,
    JSON_OPTION,
  ],
  example: "riprap kernel load",
  async run(invocation, terminal) {
    const file = invocation.option("file");
    const loaded = invocation.has("keep") && moduleOf(invocation).status().loaded;
    if (loaded) {
      show({ kept: true }, { invocation, terminal }, () => ["loaded already"]);
      return 0;
    }
    const answer = await moduleOf(invocation).load(file === undefined ? {} : { file });
    show(answer, { invocation, terminal }, ({ path }) => [`loaded ${path}`]);
    return 0;
  },
};

const unload: Command = {
  words: ["kernel", "unload"],
  group: "Machine",
  sentence: "Drain and unload the module; refused while a managed connection lives.",
  notes: [
    "A daemon that runs holds the module: stop it first. Live connections end with their programs; they are never cut by this.",
  ],
  arguments: [],
  options: [
    {
      name: "drain-timeout",
      value: "DURATION",
      sentence: "Wait this long for live connections to end, 0s when not given.",
    },
    JSON_OPTION,
    CONFIG_OPTION,
  ],
  example: "riprap kernel unload --drain-timeout 30s",
  async run(invocation, terminal) {
    const timeoutMs = invocation.duration("drain-timeout", 0);
    const { device } = configOf(invocation);
    const [module, client] = [openKernelModule(thisMachine()), clientOf(invocation)];
    await unloadModule({ module, client, open: () => openDeviceFile(device), timeoutMs, signal: terminal.signal });
    show({ unloaded: true }, { invocation, terminal }, () => ["unloaded"]);
    return 0;
  },
};

const status: Command = {
  words: ["kernel", "status"],
  group: "Machine",
  sentence: "Say whether the module is built and loaded.",
  arguments: [],
  options: [CACHE, JSON_OPTION],
  example: "riprap kernel status --json",
  async run(invocation, terminal) {
    show(moduleOf(invocation).status(), { invocation, terminal }, (answer) => [
      `kernel   ${answer.release}`,
      `built    ${answer.built ?? "no"}`,
      `loaded   ${answer.loaded ? `yes${answer.version === undefined ? "" : `, version ${answer.version}`}, held ${answer.references ?? 0} times` : "no"}`,
    ]);
    return 0;
  },
};

const doctor: Command = {
  words: ["doctor"],
  group: "Machine",
  sentence: "Check what this machine can do, and say what to change.",
  notes: ["Changes nothing. The exit status is 1 when a check fails."],
  arguments: [],
  options: [CACHE, JSON_OPTION, CONFIG_OPTION],
  example: "riprap doctor",
  async run(invocation, terminal) {
    const findings = [...moduleOf(invocation).check(), ...(await checkNode(invocation))];
    const failed = findings.filter((finding) => finding.level === "fail").length;
    show({ ok: failed === 0, findings }, { invocation, terminal }, () => [
      ...findings.flatMap(describeFinding),
      "",
      summarize(findings),
    ]);
    return failed === 0 ? 0 : 1;
  },
};

export const KERNEL_COMMANDS: readonly Command[] = [build, load, unload, status, doctor];

function moduleOf(invocation: Invocation) {
  const cacheDir = invocation.option("cache");
  return openKernelModule(thisMachine(), cacheDir === undefined ? {} : { cacheDir });
}

function describeFinding({ check, level, fact, remedy }: Finding): string[] {
  const [first = "", ...rest] = indent(remedy === undefined ? fact : `${fact}: ${remedy}`, 20);
  return [`${level.padEnd(4)}  ${check.padEnd(12)}  ${first.trimStart()}`, ...rest];
}

function summarize(findings: readonly Finding[]): string {
  const count = (level: Finding["level"]) => findings.filter((finding) => finding.level === level).length;
  const able =
    count("fail") === 0 ? "this machine can run riprap" : "until the failed are mended, riprap cannot enforce here";
  return `${count("ok")} ok, ${count("warn")} to look at, ${count("fail")} failed: ${able}`;
}
