// When the daemon's own SVID at an endpoint is made anew: by its time, by a clock that jumps, and when the authority above it is another.

import { expect, test } from "bun:test";
import { svidCertificate } from "../../../src/daemon/endpoint/certificate.ts";
import { SpiffeId } from "../../../src/spiffe_id.ts";
import { ManualClock } from "../../manual_clock.ts";
import { settle } from "../house.ts";

const MINUTE_MS = 60_000;

function source() {
  const clock = new ManualClock();
  const authority = {
    epoch: 1,
    issueX509Svids: (requests: readonly unknown[]) =>
      requests.map(() => ({
        ...{ serial: "01", chain: [new Uint8Array([1])] },
        notBefore: new Date(clock.now()),
        notAfter: new Date(clock.now() + 60 * MINUTE_MS),
      })),
  };
  const spiffeId = SpiffeId.parse("spiffe://edge.test/riprap/bundle-endpoint");
  return { clock, authority, made: svidCertificate({ authority, spiffeId, clock, random: () => 0.5 }) };
}

async function waiting({ made }: Pick<ReturnType<typeof source>, "made">) {
  const seen = { changed: false };
  const current = made.load();
  made.changed(current, new AbortController().signal).then(() => (seen.changed = true));
  await settle();
  return seen;
}

test("changed() resolves within a minute when what the authority signed is to be made anew, and not before", async () => {
  const { clock, authority, made } = source();
  const seen = await waiting({ made });
  await clock.advance(MINUTE_MS);
  expect(seen.changed).toBe(false);
  authority.epoch = 2;
  await clock.advance(MINUTE_MS);
  await settle();
  expect(seen.changed).toBe(true);
});

test("changed() resolves at once when that happened since load()", async () => {
  const { authority, made } = source();
  const current = made.load();
  authority.epoch = 2;
  await made.changed(current, new AbortController().signal);
});

test("changed() resolves when half of the SVID's life is over", async () => {
  const { clock, made } = source();
  const seen = await waiting({ made });
  for (let i = 0; i < 40; i++) {
    await clock.advance(MINUTE_MS);
    await settle(2);
  }
  expect(seen.changed).toBe(true);
});
