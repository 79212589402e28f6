// Every vector of keys, transforms and seals, by this reader too.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";

import { fromHex, hex } from "../src/bytes.js";
import { sha256 } from "../src/crypto.js";
import { ModelKey, Words, coinFlips, halfMask, permutation } from "../src/keys.js";
import { unseal1 } from "../src/sealing.js";
import { channelSlots, deriveTransform, feistelTable } from "../src/transforms.js";

const read = (name) =>
  JSON.parse(readFileSync(new URL(`../../../tests/vectors/${name}.json`, import.meta.url)));
const keys = read("keys"), transforms = read("transforms"), seals = read("seal");
const subkeysOf = ({ secret, protection_id: id }) =>
  new ModelKey(fromHex(secret)).forModel(fromHex(id));
const littleEndian = (numbers) => new Uint8Array(BigInt64Array.from(numbers, BigInt).buffer);

for (const one of keys.key_ids) {
  test(`key id: ${one.comment}`, () =>
    assert.equal(new ModelKey(fromHex(one.secret)).keyId, one.key_id));
}
for (const one of keys.subkeys) {
  test(`subkey: ${one.comment}`, () =>
    assert.equal(hex(subkeysOf(one).derive(one.use)), one.subkey));
}
for (const one of keys.words) {
  test(`words: ${one.comment}`, () => {
    const words = new Words(fromHex(one.subkey));
    assert.deepEqual(one.words.map(() => words.next()), one.words);
  });
}
for (const one of keys.permutations) {
  test(`permutation: ${one.comment}`, () =>
    assert.deepEqual(permutation(fromHex(one.subkey), one.order.length), one.order));
}
for (const one of keys.long_permutations) {
  test(`permutation: ${one.comment}`, () => {
    const order = permutation(fromHex(one.subkey), one.length);
    assert.equal(hex(sha256(littleEndian(order))), one.sha256);
  });
}
for (const one of keys.half_masks) {
  test(`half mask: ${one.comment}`, () =>
    assert.deepEqual(halfMask(fromHex(one.subkey), one.mask.length).map(Number), one.mask));
}
for (const one of keys.coin_flips) {
  test(`coin flips: ${one.comment}`, () =>
    assert.deepEqual(coinFlips(fromHex(one.subkey), one.flips.length), one.flips));
}
for (const one of keys.channels) {
  test(`channels: ${one.comment}`, () => {
    const maps = [{ layer: one.layer, channels: one.order.length, signs: true }];
    const [order, signs] = channelSlots(maps, subkeysOf(one));
    assert.deepEqual(Array.from(order.data, Number), one.order);
    assert.deepEqual(Array.from(signs.data), one.signs);
  });
}
for (const one of transforms.tables) {
  test(`table: ${one.comment}`, () =>
    assert.deepEqual(feistelTable(fromHex(one.password)), one.table));
}
for (const one of transforms.images) {
  test(`transform: ${one.comment}`, () => {
    const { height, width, block_size: m } = one;
    const image = Uint8Array.from({ length: 3 * height * width }, (_, i) => {
      const [c, y, x] = [Math.floor(i / (height * width)), Math.floor(i / width) % height, i % width];
      return (31 * c + 7 * y + 3 * x + x * y) % 256;
    });
    const transform = deriveTransform(one.methods, m, subkeysOf(one));
    const values = transform.values(image, height, width);
    assert.equal(hex(sha256(new Uint8Array(values.buffer))), one.sha256);
    assert.equal(transform.scale, one.scale);
    if (one.values) assert.deepEqual(Array.from(values), one.values);
  });
}
for (const one of seals) {
  test(`seal: ${one.comment}`, async () => {
    const opened = unseal1(fromHex(one.sealed), subkeysOf(one), one.preprocess_sha256, "it");
    if (one.expect === "success") return assert.equal(hex(await opened), one.model);
    await assert.rejects(opened, { name: one.expect });
  });
}
test("there were vectors", () => assert.ok(keys.key_ids.length && transforms.images.length && seals.length));
