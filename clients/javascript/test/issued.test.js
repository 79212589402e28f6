// Issued bundles that independent code made, one fault each, by this reader too.
// It looks at no lists of revoked grants, so those cases are left out.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";
import { inflateSync } from "node:zlib";

import { fromHex, hex } from "../src/bytes.js";
import { openBundle } from "../src/bundle.js";
import { Identity } from "../src/identity.js";

const file = new URL("../../../tests/vectors/issued.json", import.meta.url);
const vectors = JSON.parse(readFileSync(file));
const cases = vectors.cases.filter((one) => one.revocations === undefined);

async function open(one) {
  const bytes = new Uint8Array(inflateSync(Buffer.from(one.bundle, "base64")));
  const identity = new Identity(fromHex(one.identity ?? vectors.identity));
  const given = { today: one.today ?? vectors.today, signers: one.signers };
  const bundle = await openBundle(bytes, identity, { name: "it", ...given });
  return Object.fromEntries(bundle.modelData.map(({ name, data }) => [name, hex(data)]));
}

for (const one of cases) {
  test(`issued: ${one.comment}`, async () => {
    let verdict = "ok";
    try {
      assert.deepEqual(await open(one), vectors.tensors);
    } catch (refusal) {
      verdict = refusal.name;
    }
    assert.equal(verdict, one.expect);
  });
}
test("there were cases", () => assert.ok(cases.length > 80));
