// AddressPrefix: what is an address, what is not, and what a prefix holds.
import { describe, expect, test } from "bun:test";
import { isIPv4, isIPv6 } from "node:net";
import { AddressPrefix, formatAddress, mask, parseAddress } from "../src/address.ts";
import { seeded } from "./abi/sample.ts";

describe("AddressPrefix.parse()", () => {
  test.each([
    ["10.0.0.1", "10.0.0.1", 128],
    ["10.0.0.0/8", "10.0.0.0/8", 104],
    ["0.0.0.0/0", "0.0.0.0/0", 96],
    ["255.255.255.255/32", "255.255.255.255", 128],
    ["::", "::", 128],
    ["::1", "::1", 128],
    ["2001:DB8::/32", "2001:db8::/32", 32],
    ["2000::/3", "2000::/3", 3],
    ["fe80:0:0:1::/64", "fe80:0:0:1::/64", 64],
    ["::ffff:10.0.0.1", "10.0.0.1", 128],
    ["::ffff:10.0.0.0/104", "10.0.0.0/8", 104],
    ["1:0:0:2:0:0:0:3", "1:0:0:2::3", 128],
    ["64:ff9b::192.0.2.33", "64:ff9b::c000:221", 128],
  ])("AddressPrefix.parse() takes %s", (text, shown, length) => {
    const prefix = AddressPrefix.parse(text);
    expect([String(prefix), prefix.length]).toEqual([shown, length]);
    expect(AddressPrefix.parse(shown)).toEqual(prefix);
  });

  test.each([
    "",
    " 10.0.0.1",
    "10.0.0.1 ",
    "10.0.0",
    "10.0.0.256",
    "010.0.0.1",
    "10.0.0.1/33",
    "10.0.0.1/8",
    "10.0.0.0/08",
    "10.0.0.0/+8",
    "10.0.0.0/",
    "10.0.0.0/8/8",
    "10.0.0.0/8\n",
    "::/0",
    "::/80",
    "::ffff:0:0/95",
    "2001:db8::1/32",
    ":::",
    "1:2:3:4:5:6:7:8:9",
    "fe80::1%eth0",
    "[::1]",
    "localhost",
    "1e1",
    "10.0.0.1\0",
    "１０.0.0.1",
  ])("AddressPrefix.parse() refuses %j", (text) => {
    expect(AddressPrefix.tryParse(text)).toBeUndefined();
    expect(() => AddressPrefix.parse(text)).toThrow(expect.objectContaining({ code: "address_invalid" }));
  });

  test("AddressPrefix.parse() shows the prefix that is meant when bits are set past it", () => {
    expect(() => AddressPrefix.parse("10.1.2.3/8")).toThrow("write 10.0.0.0/8, or leave out /8");
  });

  test("contains() holds exactly what shares the bits of the prefix", () => {
    const prefix = AddressPrefix.parse("10.128.0.0/9");
    const holds = (text: string) => prefix.contains(parseAddress(text) ?? new Uint8Array(16));
    expect(["10.128.0.0", "10.255.255.255", "::ffff:10.129.0.1"].map(holds)).toEqual([true, true, true]);
    expect(["10.127.255.255", "11.0.0.0", "::10.128.0.0", "::"].map(holds)).toEqual([false, false, false, false]);
    expect(AddressPrefix.any.contains(mask(new Uint8Array(16).fill(255), 128))).toBe(true);
  });

  test("formatAddress() writes what parseAddress() reads, on random addresses", () => {
    const random = seeded(0xadd7);
    for (let i = 0; i < 3000; i++) {
      const bytes = Uint8Array.from({ length: 16 }, () => (random(3) === 0 ? random(256) : 0));
      if (random(4) === 0) bytes.set([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255]);
      const text = formatAddress(bytes);
      expect([text, isIPv4(text) || isIPv6(text), parseAddress(text)]).toEqual([text, true, bytes]);
    }
  });
});
