import assert from "node:assert/strict";
import { test } from "node:test";

import { ago, bytes, counted, moment, span } from "./format.ts";

test("sizes take the unit that keeps them short", () => {
  assert.deepEqual([0, 123, 999.7, 1000, 1_250_000, 34_000_000_000, 5e15].map(bytes), [
    "0 B", "123 B", "1.0 kB", "1 kB", "1.3 MB", "34 GB", "5000 TB",
  ]);
});

test("spans show their two largest units", () => {
  assert.deepEqual([-5, 70, 1500, 59_999, 60_000, 125_000, 7_500_000, 90_000_000].map(span), [
    "0 ms", "70 ms", "1.5 s", "59 s", "1 min", "2 min 5 s", "2 h 5 min", "1 d 1 h",
  ]);
});

test("a clock that runs ahead says now", () => {
  const now = 1_763_620_000_000;
  assert.deepEqual([-60_000, 0, 12_000, 180_000, 7_200_000, 864_000_000].map((ms) => ago(now - ms, now)), [
    "now", "now", "12 s ago", "3 min ago", "2 h ago", "10 d ago",
  ]);
});

test("moments are UTC, nouns agree", () => {
  assert.equal(moment(1_763_620_000_000), "2025-11-20 06:26:40 UTC");
  assert.deepEqual([counted(1, "run"), counted(1200, "run")], ["1 run", "1,200 runs"]);
});
