import { describe, expect, test } from "bun:test";
import { chmodSync, mkdirSync, readdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import {
  ensurePrivateDirectory,
  readPrivateFile,
  removePrivateFile,
  requirePrivateDirectory,
  requirePrivateFile,
  writePrivateFile,
} from "../src/private_file.ts";
import { scratchDirectories } from "./scratch.ts";

const scratch = scratchDirectories();

describe("ensurePrivateDirectory()", () => {
  test("ensurePrivateDirectory() makes a missing directory and its parents with mode 0700", () => {
    const path = join(scratch(), "a", "b");
    ensurePrivateDirectory(path);
    expect(statSync(path).mode & 0o777).toBe(0o700);
  });

  test.each(["750", "705", "711", "770", "707"])(
    "ensurePrivateDirectory() refuses when the mode is %s and says how to mend it",
    (mode) => {
      const path = join(scratch(), "d");
      mkdirSync(path);
      chmodSync(path, Number.parseInt(mode, 8));
      expect(() => ensurePrivateDirectory(path)).toThrow(new RegExp(`its mode is 0${mode} .*chmod 700`));
    },
  );

  test("requirePrivateDirectory() refuses when it is missing, a file or a symbolic link", () => {
    const home = scratch();
    writeFileSync(join(home, "file"), "");
    symlinkSync(home, join(home, "link"));
    expect(() => requirePrivateDirectory(join(home, "none"))).toThrow("it does not exist");
    expect(() => requirePrivateDirectory(join(home, "file"))).toThrow("it is not a directory");
    expect(() => requirePrivateDirectory(join(home, "link"))).toThrow("it is not a directory");
  });
});

describe("writePrivateFile() and readPrivateFile()", () => {
  test("writePrivateFile() leaves one whole file of mode 0600 whatever the mask and the earlier mode were", () => {
    const home = scratch();
    const path = join(home, "f");
    const mask = process.umask(0);
    try {
      writePrivateFile(path, Buffer.from("one"));
      chmodSync(path, 0o644);
      writePrivateFile(path, Buffer.from("three"));
    } finally {
      process.umask(mask);
    }
    expect(statSync(path).mode & 0o777).toBe(0o600);
    expect(readdirSync(home)).toEqual(["f"]);
    expect(Buffer.from(readPrivateFile(path, 5)).toString()).toBe("three");
  });

  test("writePrivateFile() leaves the earlier file and no rest when it fails", () => {
    const home = scratch();
    mkdirSync(join(home, "f"));
    expect(() => writePrivateFile(join(home, "f"), Buffer.from("x"))).toThrow();
    expect(readdirSync(home)).toEqual(["f"]);
  });

  test("writePrivateFile() replaces a symbolic link and does not write through it", () => {
    const home = scratch();
    writeFileSync(join(home, "target"), "kept");
    symlinkSync(join(home, "target"), join(home, "f"));
    writePrivateFile(join(home, "f"), Buffer.from("new"));
    expect(readFileSync(join(home, "target"), "utf8")).toBe("kept");
  });

  test.each(["640", "604", "660", "610", "601"])("readPrivateFile() refuses when the mode is %s", (mode) => {
    const path = join(scratch(), "f");
    writeFileSync(path, "x");
    chmodSync(path, Number.parseInt(mode, 8));
    expect(() => readPrivateFile(path, 10)).toThrow("chmod 600");
    expect(() => requirePrivateFile(path)).toThrow("chmod 600");
  });

  test("readPrivateFile() refuses when it is missing, a link, a directory or too large", () => {
    const home = scratch();
    writePrivateFile(join(home, "f"), Buffer.from("12345"));
    symlinkSync(join(home, "f"), join(home, "link"));
    expect(() => readPrivateFile(join(home, "none"), 10)).toThrow("it does not exist");
    expect(() => readPrivateFile(join(home, "link"), 10)).toThrow("it is a symbolic link");
    expect(() => readPrivateFile(home, 10)).toThrow("it is not a regular file");
    expect(() => readPrivateFile(join(home, "f"), 4)).toThrow("it is larger than 4 bytes");
  });

  test("removePrivateFile() does nothing when the file is gone", () => {
    const path = join(scratch(), "f");
    writePrivateFile(path, Buffer.from("x"));
    removePrivateFile(path);
    removePrivateFile(path);
  });
});
