// The limits of a graph, checked on the wire before the inference library sees it.
// docs/spec/bundle-v1.md, section 4.

import { fromUtf8 } from "./bytes.js";
import { MalformedBundle } from "./errors.js";

const MAX_FIELDS = 5_000_000;
const MAX_NODES = 100_000;
const MAX_DEPTH = 8;
const VARINT = 0, FIXED64 = 1, BYTES = 2, FIXED32 = 5;

/** Fields of one message: [number, wire type, value], bytes as views. */
export function* fieldsOf(bytes, refuse, counter = { left: MAX_FIELDS }) {
  let at = 0;
  const varint = () => {
    let value = 0n, shift = 0n;
    for (let length = 1; ; length++) {
      if (at >= bytes.length || length > 10) refuse("ends within a number");
      const byte = bytes[at++];
      value |= BigInt(byte & 0x7f) << shift;
      shift += 7n;
      if (byte < 0x80) {
        if (length > 1 && byte === 0) refuse("has a number with needless bytes");
        if (value >= 1n << 64n) refuse("has a number of more than 64 bits");
        return value;
      }
    }
  };
  while (at < bytes.length) {
    if (counter.left-- === 0) refuse(`has more than ${MAX_FIELDS} fields`);
    const tag = varint();
    if (tag >= 1n << 32n) refuse("has a tag of 2^32 or more");
    const [number, type] = [Number(tag >> 3n), Number(tag & 7n)];
    if (number === 0) refuse("has a field number 0");
    if (type === VARINT) {
      yield [number, type, varint()];
      continue;
    }
    const size = { [FIXED64]: 8, [FIXED32]: 4 }[type] ?? (type === BYTES ? Number(varint()) : -1);
    if (size < 0) refuse("has an unknown kind of field");
    if (size > bytes.length - at) refuse("ends within a field");
    yield [number, type, bytes.subarray(at, at + size)];
    at += size;
  }
}

/**
 * Check a graph.
 *
 * @returns {{opsets: Map, slots: Map}} Its operator sets, and its initializers that are
 *   declared as data outside, by name, with `location`.
 */
export function checkGraph(bytes, name, { anyDomain = false } = {}) {
  const refuse = (why) => {
    throw new MalformedBundle(`${name} ${why}`);
  };
  const counter = { left: MAX_FIELDS };
  const facts = { opsets: new Map(), slots: new Map(), nodes: 0, anyDomain };
  let graphs = 0;
  for (const [number, type, value] of fieldsOf(bytes, refuse, counter)) {
    if (number === 8) readOpset(value, refuse, counter, facts);
    else if (number === 7 && type === BYTES) {
      graphs++;
      walkGraph(value, 1, refuse, counter, facts);
    } else if (number === 25 && anyDomain) walkFunction(value, refuse, counter, facts);
    else if (number === 20) refuse("holds training information");
    else if (number === 25 && !anyDomain) refuse("holds functions");
  }
  if (graphs !== 1) refuse(`has ${graphs} graphs, expected one`);
  if (!facts.opsets.size) refuse("has no opset");
  return facts;
}

function readOpset(bytes, refuse, counter, facts) {
  let version = 0, domain = "";
  for (const [number, , value] of fieldsOf(bytes, refuse, counter)) {
    if (number === 1) domain = domainOf(value, refuse);
    if (number === 2) version = Number(value);
  }
  if (domain !== "" && !facts.anyDomain) refuse(`uses operators of ${domain}`);
  if (facts.opsets.has(domain)) refuse("names an operator set twice");
  facts.opsets.set(domain, version);
}

function walkGraph(bytes, depth, refuse, counter, facts) {
  if (depth > MAX_DEPTH) refuse(`has graphs nested more than ${MAX_DEPTH} deep`);
  for (const [number, type, value] of fieldsOf(bytes, refuse, counter)) {
    if (number === 1) {
      if (++facts.nodes > MAX_NODES) refuse(`has more than ${MAX_NODES} nodes`);
      walkNode(value, depth, refuse, counter, facts);
    } else if (number === 5 && type === BYTES) {
      const before = facts.slots.size;
      readTensor(value, refuse, counter, facts);
      if (depth > 1 && facts.slots.size !== before) refuse("has a nested initializer with data outside");
    } else if (number === 15) readSparse(value, refuse, counter, facts);
  }
}

function walkFunction(bytes, refuse, counter, facts) {
  for (const [number, type, value] of fieldsOf(bytes, refuse, counter)) {
    if (number === 7 && type === BYTES) walkNode(value, 1, refuse, counter, facts);
  }
}

function walkNode(bytes, depth, refuse, counter, facts) {
  for (const [number, , value] of fieldsOf(bytes, refuse, counter)) {
    if (number === 7 && domainOf(value, refuse) !== "" && !facts.anyDomain) refuse("uses an operator of another domain");
    if (number === 5) walkAttribute(value, depth, refuse, counter, facts);
  }
}

function walkAttribute(bytes, depth, refuse, counter, facts) {
  for (const [number, type, value] of fieldsOf(bytes, refuse, counter)) {
    if (type !== BYTES) continue;
    if (number === 6 || number === 11) walkGraph(value, depth + 1, refuse, counter, facts);
    if (number === 22 || number === 23) readSparse(value, refuse, counter, facts);
    if (number === 5 || number === 10) {
      const before = facts.slots.size;
      readTensor(value, refuse, counter, facts);
      if (facts.slots.size !== before) refuse("has an attribute with data outside");
    }
  }
}

function readSparse(bytes, refuse, counter, facts) {
  if (!facts.anyDomain) refuse("has sparse tensors");
  for (const [number, type, value] of fieldsOf(bytes, refuse, counter)) {
    const before = facts.slots.size;
    if (type === BYTES && (number === 1 || number === 2)) readTensor(value, refuse, counter, facts);
    if (facts.slots.size !== before) refuse("has a sparse tensor with data outside");
  }
}

function readTensor(bytes, refuse, counter, facts) {
  const tensor = { name: "", external: false, location: "" };
  for (const [number, , value] of fieldsOf(bytes, refuse, counter)) {
    if (number === 8) tensor.name = text(value, refuse);
    if (number === 14) tensor.external = value === 1n;
    if (number === 13) readEntry(value, refuse, counter, tensor);
  }
  if (!tensor.external) return;
  if (facts.slots.has(tensor.name)) refuse("has two tensors outside of one name");
  facts.slots.set(tensor.name, tensor);
}

function readEntry(bytes, refuse, counter, tensor) {
  let key = "", value = "";
  for (const [number, , found] of fieldsOf(bytes, refuse, counter)) {
    if (number === 1) key = text(found, refuse);
    if (number === 2) value = text(found, refuse);
  }
  if (key !== "location" || tensor.location) refuse("says more of data outside than one place");
  tensor.location = value;
}

/** An operator domain; the default one has two spellings. */
function domainOf(bytes, refuse) {
  const domain = text(bytes, refuse);
  return domain === "ai.onnx" ? "" : domain;
}

function text(bytes, refuse) {
  try {
    return fromUtf8(bytes);
  } catch {
    refuse("has a name that is not UTF-8");
  }
}
