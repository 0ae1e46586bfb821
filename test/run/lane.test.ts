import { describe, expect, test } from "bun:test";
import { countLanes, orderFiles, runLanes } from "./lane.ts";

const GIB = 2 ** 30;
const never = new AbortController().signal;

/** Work that ends when it is told to. */
function openWork(options: { lanes: number; signal?: AbortSignal }, pieces: readonly string[]) {
  const begun: string[] = [];
  const ends = new Map<string, (error?: Error) => void>();
  const all = runLanes(pieces, { lanes: options.lanes, signal: options.signal ?? never }, (piece, lane) => {
    begun.push(`${lane}:${piece}`);
    return new Promise<string>((resolve, reject) => {
      ends.set(piece, (error) => (error ? reject(error) : resolve(piece.toUpperCase())));
    });
  });
  const end = async (piece: string, error?: Error): Promise<void> => {
    ends.get(piece)?.(error);
    for (let turn = 0; turn < 8; turn++) await Promise.resolve();
  };
  return { begun, end, all };
}

describe("countLanes()", () => {
  test("gives two where there are two processors and the memory for them, and never more", () => {
    expect(countLanes(2, 16 * GIB)).toBe(2);
    expect(countLanes(64, 512 * GIB)).toBe(2);
  });

  test("gives one where there is one processor, or little memory", () => {
    expect(countLanes(1, 16 * GIB)).toBe(1);
    expect(countLanes(8, 7 * GIB)).toBe(1);
    expect(countLanes(8, 1 * GIB)).toBe(1);
  });
});

describe("orderFiles()", () => {
  test("puts the long ones first in their order, the others by name", () => {
    expect(orderFiles(["c", "a", "z", "y", "b"], ["z", "b", "gone"])).toEqual(["z", "b", "a", "c", "y"]);
  });
});

describe("runLanes()", () => {
  test("gives a lane the next piece when it is done with its last, whatever the other is at", async () => {
    const { begun, end, all } = openWork({ lanes: 2 }, ["long", "a", "b", "c"]);
    expect(begun).toEqual(["1:long", "2:a"]);
    await end("a");
    await end("b");
    expect(begun).toEqual(["1:long", "2:a", "2:b", "2:c"]);
    await end("c");
    await end("long");
    expect(await all).toEqual(["LONG", "A", "B", "C"]);
  });

  test("takes one piece at a time when there is one lane, and opens none without a piece", async () => {
    const { begun, end, all } = openWork({ lanes: 1 }, ["a", "b"]);
    expect(begun).toEqual(["1:a"]);
    await end("a");
    await end("b");
    expect(await all).toEqual(["A", "B"]);
    expect(await openWork({ lanes: 2 }, []).all).toEqual([]);
  });

  test("leaves undefined what was not begun when the signal came", async () => {
    const stop = new AbortController();
    const { begun, end, all } = openWork({ lanes: 2, signal: stop.signal }, ["a", "b", "c", "d"]);
    stop.abort();
    await end("a");
    await end("b");
    expect(await all).toEqual(["A", "B", undefined, undefined]);
    expect(begun).toEqual(["1:a", "2:b"]);
  });

  test("throws, and takes no other piece, when work throws", async () => {
    const { begun, end, all } = openWork({ lanes: 2 }, ["a", "b", "c"]);
    const caught = all.catch((error: Error) => error.message);
    await end("a", new Error("no room"));
    expect(await caught).toBe("no room");
    await end("b");
    expect(begun).toEqual(["1:a", "2:b"]);
  });
});
