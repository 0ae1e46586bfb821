import { expect, test } from "bun:test";
import { shareByFunction } from "./javascript.ts";

const frame = (functionName: string) => ({ functionName });

const PROFILE = JSON.stringify({
  startTime: 1000,
  endTime: 1500,
  nodes: [
    { id: 1, callFrame: frame("(root)"), children: [2, 5] },
    { id: 2, callFrame: frame("answer"), children: [3] },
    { id: 3, callFrame: frame(""), children: [4] },
    { id: 4, callFrame: frame("answer") },
    { id: 5, callFrame: frame("sign") },
  ],
  samples: [5, 5, 2, 3, 4],
  timeDeltas: [100, 100, 100, 100, 100],
});

test("shareByFunction() counts a function once a sample when it called itself, and those without a name as their caller", () => {
  expect([...shareByFunction(PROFILE, 500)]).toEqual([
    ["answer", { itself: 0.6, whole: 0.6 }],
    ["sign", { itself: 0.4, whole: 0.4 }],
  ]);
});

test("shareByFunction() leaves out what came before when it is asked for the last part", () => {
  expect([...shareByFunction(PROFILE, 200)]).toEqual([["answer", { itself: 1, whole: 1 }]]);
});
