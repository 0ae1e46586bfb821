// Unloading over a kernel in memory: nobody is cut, and a refusal leaves the module as it was.

import { describe, expect, test } from "bun:test";
import { type UnloadOptions, unloadModule } from "../../src/cli/unload.ts";
import { RiprapError } from "../../src/error.ts";
import { FakeKernel } from "../daemon/fake_kernel.ts";

const UNREACHABLE = () => Promise.reject(new RiprapError("unreachable", "nobody listens"));

/** A module that `holders` sockets hold beside the device, one fewer at each look. */
function loaded(holders: number, over: { unload?: () => void; ends?: boolean } = {}) {
  const kernel = new FakeKernel();
  const calls: string[] = [];
  let left = holders;
  const options: UnloadOptions = {
    module: {
      status() {
        const references = left + (kernel.isOpen ? 1 : 0);
        if (over.ends === true && kernel.isOpen && left > 0) left -= 1;
        return { release: "6.12.0", loaded: true, references };
      },
      unload() {
        calls.push("unload");
        over.unload?.();
      },
    },
    client: { path: "/run/none.sock", get: UNREACHABLE },
    open: kernel.open,
    timeoutMs: 0,
    signal: new AbortController().signal,
  };
  return { kernel, calls, options, drains: () => kernel.ofType("drain").map(({ on }) => on) };
}

describe("unloadModule", () => {
  test("unloadModule() drains, lets go of the device, and unloads when nothing holds the module", async () => {
    const { kernel, calls, options, drains } = loaded(0);
    await unloadModule(options);
    expect(drains()).toEqual([1]);
    expect(kernel.isOpen).toBe(false);
    expect(calls).toEqual(["unload"]);
  });

  test("unloadModule() waits for live sockets as long as it was told", async () => {
    const { calls, options } = loaded(2, { ends: true });
    await unloadModule({ ...options, timeoutMs: 10_000 });
    expect(calls).toEqual(["unload"]);
  });

  test("unloadModule() refuses with how many sockets live, and manages new ones again", async () => {
    const { kernel, calls, options, drains } = loaded(3);
    await expect(unloadModule(options)).rejects.toThrow("3 sockets of managed processes live");
    expect(drains()).toEqual([1, 0]);
    expect(kernel.isOpen).toBe(false);
    expect(calls).toEqual([]);
  });

  test("unloadModule() takes the drain back when the kernel refuses after all", async () => {
    const unload = () => {
      throw new RiprapError("kernel_in_use", "Cannot unload the module: EAGAIN");
    };
    const { options, drains } = loaded(0, { unload });
    await expect(unloadModule(options)).rejects.toThrow("EAGAIN");
    expect(drains()).toEqual([1, 0]);
  });

  test("unloadModule() asks nothing of the module while a daemon holds it", async () => {
    const { calls, options, drains } = loaded(0);
    const client = { path: "/run/d.sock", get: async <T>() => ({ flows: { live: 4 } }) as T };
    await expect(unloadModule({ ...options, client })).rejects.toThrow(
      "a daemon holds it (at /run/d.sock), with 4 live flows",
    );
    expect(drains()).toEqual([]);
    expect(calls).toEqual([]);
  });

  test("unloadModule() reports a device that another daemon holds", async () => {
    const { kernel, options } = loaded(0);
    kernel.open();
    await expect(unloadModule(options)).rejects.toThrow("another daemon holds it");
  });
});
