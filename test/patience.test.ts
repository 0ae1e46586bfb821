// A person hears of what takes longer than a moment, and of nothing else.

import { expect, test } from "bun:test";
import { patiently } from "../src/patience.ts";

test("patiently() says nothing of work that is done at once, nor of work that fails at once", async () => {
  const said: string[] = [];
  expect(await patiently(Promise.resolve(7), () => said.push("slow"), 5)).toBe(7);
  await expect(patiently(Promise.reject(new Error("no")), () => said.push("slow"), 5)).rejects.toThrow("no");
  await new Promise<void>((resolve) => setTimeout(resolve, 10));
  expect(said).toEqual([]);
});

test("patiently() says once that it waits when the work takes longer", async () => {
  const said: string[] = [];
  const { promise, resolve } = Promise.withResolvers<string>();
  const done = patiently(
    promise,
    () => {
      said.push("slow");
      resolve("done");
    },
    1,
  );
  expect(await done).toBe("done");
  expect(said).toEqual(["slow"]);
});
