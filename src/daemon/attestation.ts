// Turns what is known of a process into labels. Reads /proc only for labels that someone asks for, and only under a pin.

import { RiprapError } from "../error.ts";
import type { LabelSet } from "../label.ts";
import { type AccountNames, openAccountNames } from "./attestation/account.ts";
import { type Ancestor, readAncestors } from "./attestation/ancestor.ts";
import { capabilityNames } from "./attestation/capability.ts";
import { parseCgroupPath } from "./attestation/cgroup.ts";
import { createDigestCache, type DigestCache } from "./attestation/digest.ts";
import type { ProcessEvidence } from "./attestation/evidence.ts";
import { readNodeLabels } from "./attestation/node.ts";
import { pinProcess } from "./attestation/pin.ts";
import { readStatus } from "./attestation/proc.ts";
import { findScript } from "./attestation/script.ts";
import { type LooksWanted, looksFor, RUNNING_DIGEST, type WantedLabels } from "./attestation/wanted.ts";

const SECCOMP_NAMES = ["disabled", "strict", "filter"] as const;

export interface AttestorOptions {
  readonly nodeName: string;
  /** Of the fleet that this node is in; they come and go while the daemon runs. */
  readonly nodeGroups?: () => ReadonlySet<string>;
  readonly accounts?: AccountNames;
  readonly digests?: DigestCache;
}

export interface Attestor {
  /**
   * The labels of a process. What cost nothing to look at is there unasked, the rest only when wanted. RiprapError `not_found` when a look at /proc
   * is needed and the process has ended.
   */
  attest(evidence: ProcessEvidence, wanted: WantedLabels): Promise<LabelSet>;
  /** The same at once; undefined where a wanted label costs a look at /proc or a hash. */
  tryAttest(evidence: ProcessEvidence, wanted: WantedLabels): LabelSet | undefined;
}

export function createAttestor(options: AttestorOptions): Attestor {
  const accounts = options.accounts ?? openAccountNames();
  const digests = options.digests ?? createDigestCache();
  const node = readNodeLabels(options.nodeName);
  const labelsOf = (evidence: ProcessEvidence, wanted: WantedLabels) => {
    const labels = new Labels(node);
    labels.add("node:group", [...(options.nodeGroups?.() ?? [])].sort());
    addFacts(labels, evidence, looksFor(wanted));
    addUser(labels, evidence, wanted, accounts);
    return labels;
  };
  return {
    async attest(evidence, wanted) {
      const labels = labelsOf(evidence, wanted);
      if (looksFor(wanted).pinned) await addFromProc(labels, evidence, { wanted, accounts, digests });
      return labels.set;
    },
    tryAttest: (evidence, wanted) => (looksFor(wanted).pinned ? undefined : labelsOf(evidence, wanted).set),
  };
}

/** Collects labels; a value that is empty or that a name has already is not added. */
class Labels {
  readonly set: Map<string, readonly string[]>;

  constructor(start: LabelSet) {
    this.set = new Map(start);
  }

  one(name: string, value: string | undefined): void {
    if (value !== undefined && value !== "") this.set.set(name, [value]);
  }

  add(name: string, values: readonly (string | undefined)[]): void {
    if (values.length === 0) return;
    const known = new Set(values.filter((value) => value !== undefined && value !== ""));
    if (known.size > 0) this.set.set(name, [...known] as string[]);
  }
}

function addFacts(labels: Labels, evidence: ProcessEvidence, looks: LooksWanted): void {
  labels.one("process:pid", String(evidence.pid));
  labels.one("process:name", evidence.name);
  if (!evidence.hasForeignPaths) labels.one("process:exe", evidence.exe);
  labels.one("process:uid", String(evidence.uid));
  labels.one("process:gid", String(evidence.gid));
  if (looks.argv) {
    labels.one("process:cmdline", evidence.argv.join(" "));
    for (const [index, argument] of evidence.argv.entries()) labels.one(`process:arg[${index}]`, argument);
  }
  const { capabilities, noNewPrivs, seccomp } = evidence;
  // Forty names, for a process of root's.
  if (looks.capabilities && capabilities !== undefined) labels.add("process:caps", capabilityNames(capabilities));
  if (noNewPrivs !== undefined) labels.one("process:no_new_privs", String(noNewPrivs));
  if (seccomp !== undefined) labels.one("process:seccomp", SECCOMP_NAMES[seccomp]);
  if (!looks.cgroup) return;
  const { unit, slice, containerId, containerRuntime } = parseCgroupPath(evidence.cgroup);
  labels.one("systemd:unit", unit);
  labels.one("systemd:slice", slice);
  labels.one("container:id", containerId);
  labels.one("container:runtime", containerRuntime);
}

function addUser(labels: Labels, { uid }: ProcessEvidence, wanted: WantedLabels, accounts: AccountNames): void {
  if (wanted.has("process:user")) labels.one("process:user", accounts.userName(uid));
}

interface Sources {
  readonly wanted: WantedLabels;
  readonly accounts: AccountNames;
  readonly digests: DigestCache;
}

async function addFromProc(labels: Labels, evidence: ProcessEvidence, sources: Sources): Promise<void> {
  const { wanted, accounts, digests } = sources;
  const pin = pinProcess(evidence.pid, evidence.startTimeNs);
  try {
    if (wanted.hasPrefix("process:ancestor:")) addAncestors(labels, readAncestors(evidence));
    if (wanted.has("process:group")) {
      const { groups } = readStatus(evidence.pid);
      labels.add("process:group", [evidence.gid, ...groups].map(accounts.groupName));
    }
    if (wanted.hasPrefix("process:script")) {
      const script = findScript(evidence);
      if (!evidence.hasForeignPaths) labels.one("process:script", script?.path);
      if (script !== undefined && wanted.has("process:script:sha256")) {
        labels.one("process:script:sha256", await digests.digest(script.openPath));
      }
    }
    if (wanted.has("process:exe:sha256")) {
      // Through /proc: it is the file that runs, whatever its path means by now or in our namespace.
      const path = `/proc/${evidence.pid}/exe`;
      labels.one("process:exe:sha256", await digests.digest(path, evidence.exeStamp));
    }
    // Nor does it matter here what has become of the file: it is what a revocation is about.
    if (wanted.has(RUNNING_DIGEST)) labels.one(RUNNING_DIGEST, await digests.digest(`/proc/${evidence.pid}/exe`));
    // Every look was at this process only if it has not ended until now.
    if (!pin.isAlive()) throw new RiprapError("not_found", `Cannot attest process ${evidence.pid}: it ended meanwhile`);
  } finally {
    pin.close();
  }
}

function addAncestors(labels: Labels, ancestors: readonly Ancestor[]): void {
  labels.add(
    "process:ancestor:pid",
    ancestors.map(({ pid }) => String(pid)),
  );
  labels.add(
    "process:ancestor:name",
    ancestors.map(({ name }) => name),
  );
  labels.add(
    "process:ancestor:exe",
    ancestors.map(({ exe }) => exe),
  );
  labels.add(
    "process:ancestor:uid",
    ancestors.map(({ uid }) => String(uid)),
  );
  labels.add(
    "process:ancestor:script",
    ancestors.map(({ script }) => script),
  );
}
