// The few commands of TPM 2.0 that riprap speaks: held to the bytes of the standard's structures, and to what a hostile TPM may answer.
import { describe, expect, test } from "bun:test";
import { openByTpm, openTpmDevice, readResponse, sealByTpm, type Tpm } from "../../../src/ca/key_store/tpm.ts";
import {
  createPrimaryCommand,
  createSealedCommand,
  flushCommand,
  parseResponse,
  responseLength,
} from "../../../src/ca/key_store/tpm_wire.ts";
import { RiprapError } from "../../../src/error.ts";
import { draw, random } from "../../random.ts";
import { HAS_SWTPM, startSwtpm } from "./ground.ts";

const hex = (text: string) => Buffer.from(text.replaceAll(" ", ""), "hex");
const OK = hex("8001 0000000a 00000000");

/** Answers with what is given, one after another. */
function scripted(...answers: Uint8Array[]): Tpm & { readonly asked: Uint8Array[] } {
  const asked: Uint8Array[] = [];
  return {
    asked,
    exchange(command) {
      asked.push(Uint8Array.from(command));
      return answers.shift() ?? OK;
    },
    close: () => undefined,
  };
}

const code = (work: () => unknown): string => {
  try {
    work();
  } catch (thrown) {
    if (thrown instanceof RiprapError) return thrown.code;
    throw thrown;
  }
  return "no error";
};
const failing = (rc: string) => hex(`8001 0000000a ${rc}`);
const OBJECT = { publicArea: hex("0008"), privateArea: hex("0001") };

describe("commands", () => {
  test("createPrimaryCommand() asks for a P-256 storage key of the owner hierarchy, by an empty password", () => {
    expect(Buffer.from(createPrimaryCommand()).toString("hex")).toBe(
      hex(
        `8002 00000043 00000131 40000001 00000009 40000009 0000 00 0000
         0004 0000 0000
         001a 0023 000b 00030472 0000 0006 0080 0043 0010 0003 0010 0000 0000
         0000 00000000`.replaceAll(/\s/g, ""),
      ).toString("hex"),
    );
  });

  test("createSealedCommand() holds the secret once, where its length says", () => {
    const secret = Buffer.alloc(32, 0xee);
    const command = Buffer.from(createSealedCommand(0x80000000, secret));
    expect(command.readUInt32BE(2)).toBe(command.length);
    expect(command.indexOf(secret)).toBe(33);
    expect(command.readUInt16BE(31)).toBe(32);
    expect(command.lastIndexOf(secret)).toBe(33);
  });

  test("flushCommand() has no session", () => {
    expect(Buffer.from(flushCommand(0x80000001))).toEqual(hex("8001 0000000e 00000165 80000001"));
  });
});

describe("responses", () => {
  test.each([
    ["", "it ends too early"],
    ["8001", "it ends too early"],
    ["8003 0000000a 00000000", "its tag is unknown"],
    ["8001 0000000b 00000000", "its length is not what it says"],
    ["8001 0000000a 00000000 00", "its length is not what it says"],
  ])("parseResponse() refuses %s", (text, message) => {
    expect(() => parseResponse(hex(text))).toThrow(message);
  });

  test("responseLength() refuses what no TPM says before it is read", () => {
    expect(responseLength(hex("8001 0000"))).toBeUndefined();
    expect(responseLength(OK)).toBe(10);
    for (const length of ["00000009", "00001001", "ffffffff"])
      expect(() => responseLength(hex(`8001 ${length} 00000000`))).toThrow(RangeError);
  });

  test("readResponse() puts pieces together, and refuses an end in the middle", () => {
    const pieces = (...parts: string[]) => {
      const left = parts.map(hex);
      return readResponse((buffer, at) => {
        const part = left.shift() ?? new Uint8Array();
        buffer.set(part, at);
        return part.length;
      });
    };
    expect(Buffer.from(pieces("8001", "0000000c0000", "0000", "ffff")).length).toBe(12);
    expect(() => pieces("8001", "0000000c0000")).toThrow("it ended");
  });

  test.each([
    ["000001df", "of another TPM, or this one was cleared since"],
    ["0000018b", "of another TPM, or this one was cleared since"],
    ["000009a2", "the owner hierarchy has a password"],
    ["00000185", "the owner hierarchy is disabled"],
    ["00000921", "it refuses"],
  ])("openByTpm() says what %s means, and what to do", (rc, fact) => {
    const tpm = scripted(failing(rc));
    expect(() => openByTpm(() => tpm, OBJECT)).toThrow(fact);
    expect(code(() => openByTpm(() => scripted(failing(rc)), OBJECT))).toBe("tpm_refused");
  });

  test("sealByTpm() asks again while the TPM is busy, and gives up in the end", () => {
    const busy = Array.from({ length: 3 }, () => failing("00000922"));
    const tpm = scripted(...busy, failing("00000101"));
    expect(code(() => sealByTpm(() => tpm, new Uint8Array(32)))).toBe("tpm_refused");
    expect(tpm.asked.length).toBe(4);
  });

  test("openByTpm() throws nothing but RiprapError, whatever a TPM answers", () => {
    const next = random(11);
    const shapes = [
      hex("8002 00000016 00000000 80000000 00000004 0000 0000"),
      hex("8002 00000012 00000000 80000001 00000000"),
      hex("8002 00000030 00000000 00000022 0020".concat("ab".repeat(32))),
    ];
    for (let round = 0; round < 3000; round += 1) {
      const answers = shapes.map((shape) => {
        const bytes = Buffer.from(shape);
        for (let i = draw(next, 3); i > 0; i -= 1) bytes[draw(next, bytes.length)] = draw(next, 256);
        return draw(next, 4) === 0 ? bytes.subarray(0, draw(next, bytes.length)) : bytes;
      });
      const tpm = scripted(...answers);
      try {
        expect(openByTpm(() => tpm, OBJECT).length).toBe(32);
      } catch (thrown) {
        expect(thrown).toBeInstanceOf(RiprapError);
      }
    }
  });

  test("openTpmDevice() says what keeps it from the device", () => {
    expect(code(() => openTpmDevice("/nonexistent/tpm"))).toBe("tpm_unusable");
  });
});

describe.skipIf(!HAS_SWTPM)("swtpm", () => {
  test("openByTpm() gives what sealByTpm() sealed, leaves nothing loaded, and refuses an object that was changed", async () => {
    const tpm = await startSwtpm();
    try {
      const secret = crypto.getRandomValues(new Uint8Array(32));
      const object = sealByTpm(tpm.open, secret);
      // A TPM has room for three objects: what is not flushed would be noticed.
      for (let round = 0; round < 8; round += 1) expect(openByTpm(tpm.open, object)).toEqual(secret);
      const changed = Uint8Array.from(object.privateArea);
      changed[40] = (changed[40] as number) ^ 1;
      for (let round = 0; round < 8; round += 1)
        expect(code(() => openByTpm(tpm.open, { ...object, privateArea: changed }))).toBe("tpm_refused");
      expect(openByTpm(tpm.open, object)).toEqual(secret);
    } finally {
      await tpm.stop();
    }
  });
});
