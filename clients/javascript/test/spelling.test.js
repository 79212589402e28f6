// One content, one spelling: what a reader lets pass, another might read otherwise.

import assert from "node:assert/strict";
import test from "node:test";

import { utf8 } from "../src/bytes.js";
import { parseCanonical, parseOnce } from "../src/json.js";
import { number, positive, whole } from "../src/schema.js";

const read = (text) => parseCanonical(utf8(text));

test("a number that may have digits behind its point has a point", () => {
  number(read("1.0"), "it");
  positive(read("0.5"), "it");
  assert.throws(() => number(read("1"), "it"), TypeError);
  assert.throws(() => positive(read("1"), "it"), TypeError);
  assert.throws(() => whole(0, 3)(read("1.0"), "it"), TypeError);
});

test("a key stands once", () => {
  const sound = '{"a": {"b": 1, "c": "\\"a\\": {"}, "b": [{"a": 1}, {"a": 2}]}';
  assert.deepEqual(parseOnce(sound), JSON.parse(sound));
  for (const text of ['{"a": 1, "a": 1}', '[{"b": {"c": 1, "c": 2}}]', '{"a": 1, "\\u0061": 2}']) {
    assert.throws(() => parseOnce(text), SyntaxError);
  }
});
