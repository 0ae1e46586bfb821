// What a cgroup path says of systemd and of containers. Never believes the part of it that a user may name.

export interface CgroupLabels {
  readonly unit?: string;
  readonly slice?: string;
  readonly containerId?: string;
  readonly containerRuntime?: string;
}

interface ContainerPattern {
  readonly runtime: string;
  /** One path component. The first group is the container's ID. */
  readonly component: RegExp;
  /** What the component before must be, when the ID alone says too little. */
  readonly below?: RegExp;
}

const ID = "([0-9a-f]{64})";
const CONTAINERS: readonly ContainerPattern[] = [
  { runtime: "docker", component: new RegExp(`^docker-${ID}\\.scope$`) },
  { runtime: "containerd", component: new RegExp(`^(?:cri-containerd|nerdctl|containerd)-${ID}\\.scope$`) },
  { runtime: "cri-o", component: new RegExp(`^crio-${ID}(?:\\.scope)?$`) },
  { runtime: "podman", component: new RegExp(`^libpod-${ID}(?:\\.scope)?$`) },
  { runtime: "docker", component: new RegExp(`^${ID}$`), below: /^docker$/ },
  { runtime: "containerd", component: new RegExp(`^${ID}$`), below: /^(?:default|k8s\.io|moby|pod[0-9a-f_-]{36})$/ },
];
const UNIT = /\.(service|scope|socket|mount|swap)$/;
/** Below these a user names cgroups as it likes (systemd delegates the subtree). */
const DELEGATED_TO_USER = /^user@\d+\.service$/;

/**
 * The system unit (the first component after the leading slices) and its slice; the innermost container. A user's own
 * units and rootless containers have no label of their own: their names are the user's word.
 */
export function parseCgroupPath(path: string): CgroupLabels {
  const parts = path.split("/").filter((part) => part !== "");
  const first = parts.findIndex((part) => !part.endsWith(".slice"));
  const unit = first < 0 ? undefined : parts[first];
  const slice = first < 0 ? parts.at(-1) : parts[first - 1];
  const isDelegated = unit !== undefined && DELEGATED_TO_USER.test(unit);
  const container = isDelegated ? undefined : findContainer(parts);
  return {
    ...(unit !== undefined && UNIT.test(unit) ? { unit: unescapeUnit(unit) } : {}),
    ...(slice !== undefined ? { slice } : {}),
    ...(container ?? {}),
  };
}

function findContainer(parts: readonly string[]): CgroupLabels | undefined {
  for (let index = parts.length - 1; index >= 0; index--) {
    for (const { runtime, component, below } of CONTAINERS) {
      const id = component.exec(parts[index] ?? "")?.[1];
      if (id !== undefined && (below === undefined || below.test(parts[index - 1] ?? ""))) {
        return { containerId: id, containerRuntime: runtime };
      }
    }
  }
  return undefined;
}

// systemd puts "_" before a component that would look like a file of the cgroup file system.
function unescapeUnit(unit: string): string {
  return unit.startsWith("_") ? unit.slice(1) : unit;
}
