import { expect, test } from "bun:test";
import { parseCounts } from "./counter.ts";
import { parseMappings, parseSymbols, sumByFunction } from "./symbol.ts";

const SYMBOLS = `ffffffff81000000 T _stext
ffffffff81000100 t tcp_sendmsg
ffffffff81000200 D some_data
ffffffffc0000000 t tls_sw_sendmsg	[tls]
0000000000401000 T main
`;

const MAPPINGS = `01a40000-06849000 r-xp 01838000 00:16 77                         /usr/local/bin/riprap
06849000-06867000 rw-p 06641000 00:16 77                         /usr/local/bin/riprap
7f0000000000-7f0000100000 rwxp 00000000 00:00 0 
7f1000000000-7f1000100000 r-xp 00001000 00:16 78                 /usr/lib/libcrypto.so.3
`;

test("parseSymbols() keeps functions with their modules, sorted, when data is among them", () => {
  expect(parseSymbols(SYMBOLS).map(({ name }) => name)).toEqual([
    "main",
    "_stext",
    "tcp_sendmsg",
    "tls_sw_sendmsg [tls]",
  ]);
});

test("parseMappings() keeps what can be executed, by its file, when it has one", () => {
  expect(parseMappings(MAPPINGS).map(({ name }) => name)).toEqual(["riprap", "made at run time", "libcrypto.so.3"]);
});

test("sumByFunction() adds what lies behind a symbol, the most first, when several blocks are of one function", () => {
  const counts = parseCounts("ffffffff81000100 5\nffffffff810001f0 7\nffffffffc0000010 40\n401010 1\n");
  expect([...sumByFunction(counts, parseSymbols(SYMBOLS), [])]).toEqual([
    ["tls_sw_sendmsg [tls]", 40],
    ["tcp_sendmsg", 12],
    ["main", 1],
  ]);
});

test("sumByFunction() takes the mapping when an address is in the reach of no symbol", () => {
  const counts = parseCounts("1a40d00 1\n7f0000000000 2\n7f10000fffff 4\n");
  expect([...sumByFunction(counts, parseSymbols(SYMBOLS), parseMappings(MAPPINGS))]).toEqual([
    ["libcrypto.so.3", 4],
    ["made at run time", 2],
    ["riprap", 1],
  ]);
});

test("sumByFunction() gives no function when an address is before all, far behind one, or across the border of the kernel", () => {
  const counts = parseCounts("1000 1\n7f2000000000 2\nffff888000000000 4\nffffffff91000000 8\n");
  expect([...sumByFunction(counts, parseSymbols(SYMBOLS), parseMappings(MAPPINGS))]).toEqual([
    ["kernel, no symbol", 12],
    ["program, no symbol", 3],
  ]);
});
