// What a person reads when state cannot be kept.

import { Database } from "bun:sqlite";
import { expect, test } from "bun:test";
import { join } from "node:path";
import { asStateFault } from "../../src/daemon/state_fault.ts";
import { RiprapError } from "../../src/error.ts";
import { scratchDirectories } from "../scratch.ts";

const scratch = scratchDirectories();

test.each([
  ["ENOSPC", "the disk is full"],
  ["EROFS", "cannot be written"],
  ["SQLITE_BUSY", "another program holds the database"],
  ["SQLITE_IOERR_WRITE", "the disk fails"],
  ["SQLITE_CORRUPT", "restore state.db"],
])("asStateFault() says what to do about %s", (code, sentence) => {
  const fault = asStateFault(Object.assign(new Error("raw"), { code }), "revoke");
  expect(fault).toBeInstanceOf(RiprapError);
  expect(fault).toMatchObject({ code: "state_unusable", message: expect.stringContaining(sentence) });
});

test("asStateFault() leaves alone what is no fault of the state", () => {
  const own = new RiprapError("authority_phase", "Cannot");
  const bug = new TypeError("a bug");
  expect([asStateFault(own, "x"), asStateFault(bug, "x"), asStateFault(undefined, "x")]).toEqual([own, bug, undefined]);
});

test("asStateFault() knows what SQLite itself throws when the file is locked or read-only", () => {
  const path = join(scratch(), "state.db");
  const [holder, other] = [new Database(path), new Database(path)];
  holder.exec("CREATE TABLE t (x); BEGIN IMMEDIATE");
  const thrownBy = (work: () => unknown) => {
    try {
      work();
    } catch (thrown) {
      return asStateFault(thrown, "revoke");
    }
    return undefined;
  };
  expect(thrownBy(() => other.exec("BEGIN IMMEDIATE"))).toMatchObject({
    message: expect.stringContaining("another program"),
  });
  holder.exec("COMMIT");
  const reader = new Database(path, { readonly: true });
  expect(thrownBy(() => reader.exec("INSERT INTO t VALUES (1)"))).toMatchObject({
    message: expect.stringContaining("writable"),
  });
  for (const database of [holder, other, reader]) database.close();
});
