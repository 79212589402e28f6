// Put the tensors of key slots into a graph, in memory.
//
// In format 1 all slots share one location, and onnxruntime's JavaScript packages tell
// tensors outside apart by their location; so a graph gets them inside before it is loaded.

import { concat, utf8 } from "./bytes.js";
import { fieldsOf } from "./graph.js";

const GRAPH = 7, INITIALIZER = 5;
const DIMS = 1, DATA_TYPE = 2, NAME = 8, RAW_DATA = 9, DATA_LOCATION = 14;
const BYTES = 2;

/** The model with each tensor outside replaced by one inside, of the same name. */
export function withTensors(model, tensors) {
  const given = new Map(tensors.map((tensor) => [tensor.name, tensor.data]));
  return rewrite(model, GRAPH, (graph) =>
    rewrite(graph, INITIALIZER, (tensor) => filled(tensor, given)),
  );
}

/** A message whose fields of one number were changed. */
function rewrite(message, number, change) {
  const parts = [];
  for (const [field, type, value] of fieldsOf(message, refuse)) {
    parts.push(encoded(field, type, field === number && type === BYTES ? change(value) : value));
  }
  return concat(...parts);
}

function filled(tensor, given) {
  const fields = [...fieldsOf(tensor, refuse)];
  if (!fields.some(([field, , value]) => field === DATA_LOCATION && value === 1n)) return tensor;
  const name = new TextDecoder().decode(fields.find(([field]) => field === NAME)[2]);
  const kept = fields.filter(([field]) => field === DIMS || field === DATA_TYPE);
  return concat(
    ...kept.map(([field, type, value]) => encoded(field, type, value)),
    encoded(NAME, BYTES, utf8(name)),
    encoded(RAW_DATA, BYTES, given.get(name)),
  );
}

function encoded(field, type, value) {
  const tag = varint(BigInt(field * 8 + type));
  if (typeof value === "bigint") return concat(tag, varint(value));
  return type === BYTES ? concat(tag, varint(BigInt(value.length)), value) : concat(tag, value);
}

function varint(number) {
  const bytes = [];
  do {
    bytes.push(Number(number & 0x7fn) | (number > 0x7fn ? 0x80 : 0));
    number >>= 7n;
  } while (number);
  return Uint8Array.from(bytes);
}

function refuse(why) {
  throw new Error(`a graph that was checked ${why}`);
}
