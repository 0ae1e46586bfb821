#!/usr/bin/env bun
// The program: one binary that is both the riprap command and the daemon.

import { openTerminal } from "./cli/terminal.ts";
import { runCli } from "./cli.ts";

process.exitCode = await runCli(process.argv.slice(2), openTerminal());
