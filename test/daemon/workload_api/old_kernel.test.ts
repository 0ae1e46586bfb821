// Who calls where the kernel gives no pidfd of the peer, as before Linux 6.5: a filter of system calls refuses the option as those kernels do.

import { describe, expect, test } from "bun:test";
import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { scratchDirectories } from "../../scratch.ts";
import { identityRule } from "./endpoint.ts";
import { MAIN, prepareProgram } from "./program.ts";

const PYTHON = "/usr/bin/python3";
const TEST_MS = 60_000;
const scratch = scratchDirectories();

/** Runs its arguments where getsockopt(SO_PEERPIDFD) is ENOPROTOOPT: five instructions of a filter, for x86-64. */
const WITHOUT_PIDFD = `import ctypes, os, socket, struct, sys
GETSOCKOPT, SO_PEERPIDFD, ENOPROTOOPT = 55, 77, 92
code = [(0x20, 0, 0, 0), (0x15, 0, 3, GETSOCKOPT), (0x20, 0, 0, 32), (0x15, 0, 1, SO_PEERPIDFD),
        (0x06, 0, 0, 0x00050000 | ENOPROTOOPT), (0x06, 0, 0, 0x7fff0000)]
room = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *one) for one in code))
program = struct.pack("HxxxxxxQ", len(code), ctypes.addressof(room))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(22, 2, program, 0, 0) == 0, ctypes.get_errno()
try:
    socket.socketpair()[0].getsockopt(socket.SOL_SOCKET, SO_PEERPIDFD)
except OSError as refused:
    assert refused.errno == ENOPROTOOPT
    os.execv(sys.argv[1], sys.argv[1:])
sys.exit("the filter refuses nothing")
`;
const CAN_FILTER = process.arch === "x64" && process.getuid?.() === 0 && existsSync(PYTHON);
const CAN_NUMBER = CAN_FILTER && Bun.spawnSync(["unshare", "--pid", "--fork", "--mount-proc", "true"]).exitCode === 0;
if (!CAN_FILTER)
  process.stderr.write("skipped: a kernel without SO_PEERPIDFD is played by root with python3, on x86-64\n");
if (!CAN_NUMBER)
  process.stderr.write("skipped: to give a number to a second process needs that, and a PID namespace\n");

/** Of an older kernel, or as this one is. */
const KERNELS = [
  ["without SO_PEERPIDFD", [PYTHON, "-c", WITHOUT_PIDFD]],
  ["as this kernel has it", []],
] as const;

describe("openCaller", () => {
  test.skipIf(!CAN_FILTER)(
    "openCaller() does all that its tests hold where SO_PEERPIDFD is refused",
    () => {
      const tests = [process.execPath, "test", join(import.meta.dir, "caller.test.ts"), "-t", "openCaller"];
      const { exitCode, stderr } = Bun.spawnSync([PYTHON, "-c", WITHOUT_PIDFD, ...tests], { stderr: "pipe" });
      expect({ exitCode, said: stderr.toString() }).toMatchObject({
        exitCode: 0,
        said: expect.stringMatching(/\n [1-9]\d* pass\n/),
      });
    },
    TEST_MS,
  );

  test.skipIf(!CAN_NUMBER).each(KERNELS)(
    "openCaller() takes nobody for the process that connected who has its number, %s",
    async (_, prefix) => {
      const folder = scratch();
      const { config, rulesDir, workloadSocket } = prepareProgram(folder);
      const { stdout } = Bun.spawnSync(["readlink", "-f", PYTHON]);
      writeFileSync(join(rulesDir, "a.yaml"), identityRule("a", { exe: stdout.toString().trim() }));
      const riprap = `${process.execPath} ${MAIN}`;
      const script = `set -e
: >${folder}/log
${riprap} init fresh.example --node alone --config ${config} >/dev/null
"$@" ${riprap} daemon --config ${config} 2>>${folder}/log &
until grep -q 'daemon is running' ${folder}/log; do sleep 0.05; done
${PYTHON} ${join(import.meta.dir, "heir.py")} ${workloadSocket}`;
      const command = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child", "sh", "-c", script, "sh"];
      const run = Bun.spawn([...command, ...prefix], { stdin: "ignore", stdout: "pipe", stderr: "inherit" });
      expect(await new Response(run.stdout).text()).toBe("maker answered\nsuccessor answered\nheir refused\n");
      expect(await run.exited).toBe(0);
    },
    TEST_MS,
  );
});
