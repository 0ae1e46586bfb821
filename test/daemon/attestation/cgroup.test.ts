// systemd and container labels from cgroup paths.

import { expect, test } from "bun:test";
import { parseCgroupPath } from "../../../src/daemon/attestation/cgroup.ts";

const ID = "0123456789abcdef".repeat(4);

test.each([
  ["/system.slice/web.service", { unit: "web.service", slice: "system.slice" }],
  ["/system.slice/system-getty.slice/getty@tty1.service", { unit: "getty@tty1.service", slice: "system-getty.slice" }],
  ["/init.scope", { unit: "init.scope" }],
  ["/user.slice/user-1000.slice/session-2.scope", { unit: "session-2.scope", slice: "user-1000.slice" }],
  ["/system.slice/web.service/worker", { unit: "web.service", slice: "system.slice" }],
  ["/", {}],
  ["", {}],
  [
    `/system.slice/docker-${ID}.scope`,
    { unit: `docker-${ID}.scope`, slice: "system.slice", containerId: ID, containerRuntime: "docker" },
  ],
  [`/docker/${ID}`, { containerId: ID, containerRuntime: "docker" }],
  [
    `/machine.slice/libpod-${ID}.scope/container`,
    { unit: `libpod-${ID}.scope`, slice: "machine.slice", containerId: ID, containerRuntime: "podman" },
  ],
  [
    `/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1.slice/cri-containerd-${ID}.scope`,
    {
      unit: `cri-containerd-${ID}.scope`,
      slice: "kubepods-burstable-pod1.slice",
      containerId: ID,
      containerRuntime: "containerd",
    },
  ],
  [
    `/kubepods.slice/kubepods-pod1.slice/crio-${ID}.scope`,
    { unit: `crio-${ID}.scope`, slice: "kubepods-pod1.slice", containerId: ID, containerRuntime: "cri-o" },
  ],
  [`/default/${ID}`, { containerId: ID, containerRuntime: "containerd" }],
])("parseCgroupPath() reads unit, slice and container when the path is %s", (path, labels) => {
  expect(parseCgroupPath(path)).toEqual(labels);
});

test("parseCgroupPath() believes no unit and no container when a user named the cgroup", () => {
  const own = "/user.slice/user-1000.slice/user@1000.service";
  for (const below of [`/docker-${ID}.scope`, "/app.slice/web.service", `/user.slice/libpod-${ID}.scope`]) {
    expect(parseCgroupPath(own + below)).toEqual({ unit: "user@1000.service", slice: "user-1000.slice" });
  }
});

test.each([`/docker-${ID.slice(1)}.scope`, `/crio-conmon-${ID}.scope`, `/a/${ID}`, `/${ID}`, "/docker-../x.scope"])(
  "parseCgroupPath() sees no container when the path is %s",
  (path) => {
    expect(parseCgroupPath(path).containerId).toBeUndefined();
  },
);
