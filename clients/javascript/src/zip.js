// The file: stored ZIP members whose every byte is fixed by their contents.
// docs/spec/bundle-v1.md and bundle-v2.md, section 1.

import { concat, equal, u32, u64, utf8 } from "./bytes.js";
import { MalformedBundle } from "./errors.js";

const LOCAL = utf8("PK\x03\x04"), CENTRAL = utf8("PK\x01\x02"), END = utf8("PK\x05\x06");
const END_64 = utf8("PK\x06\x06"), LOCATOR_64 = utf8("PK\x06\x07");
const DATE = 0x0021;
const ELSEWHERE = 0xffffffff;
const PAGE = 4096;

const GIB = 2 ** 30;
/** Members of each format in order, and the most bytes each may have. */
export const LIMITS = {
  1: {
    "manifest.json": 2 ** 20,
    "preprocess.onnx": 2 ** 24,
    "model.onnx": 2 * GIB - 1,
    "model.onnx.enc": 2 * GIB - 1,
  },
  2: {
    "manifest.json": 2 ** 22,
    "tensors.json": 2 ** 26,
    "tensors.json.enc": 2 ** 26,
    "graph.onnx": 2 * GIB - 1,
    "graph.onnx.enc": 2 * GIB - 1,
    "preprocess.onnx": 2 ** 24,
    "weights.bin": 2 ** 46,
    "grant.json": 2 ** 20,
    "model.sig": 2 ** 20,
  },
};
const NAMED_LAST = ["grant.json", "model.sig"]; // the manifest does not name them

/** Which format a file is of, from its first header. */
export function formatOf(file, name) {
  if (!equal(file.subarray(0, 4), LOCAL) || file.length < 30) {
    throw new MalformedBundle(`${name} is not a bundle`);
  }
  return new DataView(file.buffer, file.byteOffset).getUint16(4, true) === 45 ? 2 : 1;
}

/** Members of format 1 by name; every header must be what their contents decide. */
export function unpack1(file, name) {
  const places = [["manifest.json"], ["preprocess.onnx"], ["model.onnx", "model.onnx.enc"]];
  const members = [];
  let at = 0;
  for (const place of places) {
    const found = readHeader(file, at, place, 10, LIMITS[1], name);
    const header = local1(found);
    if (!equal(file.subarray(at, at + header.length), header)) {
      throw new MalformedBundle(`${name}: ${found.name} has an unexpected ZIP header`);
    }
    const content = take(file, at + header.length, found, name);
    members.push({ ...found, offset: at, content });
    at += header.length + found.size;
  }
  const entries = members.map((member) =>
    concat(CENTRAL, u16(20), common1(member), u16(0, 0, 0), u32(0, member.offset), utf8(member.name)),
  );
  const central = concat(...entries);
  const end = concat(END, u16(0, 0, 3, 3), u32(central.length, at), u16(0));
  finish(file, at, concat(central, end), name);
  return Object.fromEntries(members.map(({ name: member, content }) => [member, content]));
}

/** The manifest's bytes of a file of format 2, and the checksum they have. */
export function first2(file, name) {
  const found = readHeader(file, 0, ["manifest.json"], 45, LIMITS[2], name);
  const member = { ...found, at: 0 };
  checkHeader2(file, member, name);
  return { content: take(file, start2(member), member, name), crc: found.crc };
}

/**
 * Members of format 2 by name, once the manifest has said what they are.
 *
 * @param {{name: string, size: number, crc: number}[]} named in the file's order
 */
export function unpack2(file, named, name) {
  const members = [];
  let at = 0;
  for (const one of named) {
    const member = { ...one, at };
    if (start2(member) + member.size > file.length) {
      throw new MalformedBundle(`${name} ends within ${member.name}`);
    }
    checkHeader2(file, member, name);
    members.push(member);
    at = start2(member) + member.size;
  }
  for (const beside of NAMED_LAST) {
    if (!startsMember(file, at, beside)) continue;
    const member = { ...readHeader(file, at, [beside], 45, LIMITS[2], name), at };
    checkHeader2(file, member, name);
    take(file, start2(member), member, name);
    members.push(member);
    at = start2(member) + member.size;
  }
  const central = concat(...members.map(entry2));
  const end = concat(
    END_64, u64(44), u16(45, 45), u32(0, 0),
    u64(members.length, members.length, central.length, at),
    LOCATOR_64, u32(0), u64(at + central.length), u32(1),
    END, u16(0, 0, 0xffff, 0xffff), u32(ELSEWHERE, ELSEWHERE), u16(0),
  );
  finish(file, at, concat(central, end), name);
  return Object.fromEntries(
    members.map((member) => {
      const start = start2(member);
      return [member.name, { ...member, content: file.subarray(start, start + member.size) }];
    }),
  );
}

function readHeader(file, at, place, version, limits, name) {
  const expected = place.join(" or ");
  const head = file.subarray(at, at + 30);
  if (!equal(head.subarray(0, 4), LOCAL)) {
    throw new MalformedBundle(`${name}: expected ${expected}, found something that is not such a ZIP member`);
  }
  if (head.length < 30) throw new MalformedBundle(`${name} ends before ${expected}`);
  const view = new DataView(head.buffer, head.byteOffset);
  const length = view.getUint16(26, true);
  const written = file.subarray(at + 30, at + 30 + length);
  const member = place.find((one) => equal(utf8(one), written));
  if (member === undefined) {
    throw new MalformedBundle(`${name}: expected ${expected}, found another member`);
  }
  let size = view.getUint32(22, true);
  if (version === 45) {
    const sizes = at + 30 + length + 12;
    if (sizes + 8 > file.length) throw new MalformedBundle(`${name} ends before ${expected}`);
    size = Number(new DataView(file.buffer, file.byteOffset + sizes).getBigUint64(0, true));
  }
  if (size > limits[member]) {
    throw new MalformedBundle(`${name}: ${member} announces ${size} bytes`);
  }
  return { name: member, crc: view.getUint32(14, true), size };
}

function startsMember(file, at, member) {
  const name = utf8(member);
  return equal(file.subarray(at, at + 4), LOCAL) && equal(file.subarray(at + 30, at + 30 + name.length), name);
}

function checkHeader2(file, member, name) {
  const header = local2(member);
  if (!equal(file.subarray(member.at, member.at + header.length), header)) {
    throw new MalformedBundle(`${name}: ${member.name} has an unexpected ZIP header`);
  }
}

function take(file, start, member, name) {
  const content = file.subarray(start, start + member.size);
  if (content.length !== member.size) {
    throw new MalformedBundle(`${name} ends within ${member.name}`);
  }
  if (crc32(content) !== member.crc) {
    throw new MalformedBundle(`${name}: the checksum of ${member.name} does not match`);
  }
  return content;
}

function finish(file, at, expected, name) {
  const found = file.subarray(at);
  if (found.length < expected.length) throw new MalformedBundle(`${name} ends within its directory`);
  if (found.length > expected.length) {
    throw new MalformedBundle(`${name} has bytes after its end, or another member`);
  }
  if (!equal(found, expected)) throw new MalformedBundle(`${name} has an unexpected ZIP directory`);
}

function common1({ name, crc, size }) {
  return concat(u16(10, 0, 0, 0, DATE), u32(crc, size, size), u16(name.length, 0));
}

const local1 = (member) => concat(LOCAL, common1(member), utf8(member.name));

function common2({ name, crc }, extra) {
  return concat(u16(45, 0, 0, 0, DATE), u32(crc, ELSEWHERE, ELSEWHERE), u16(name.length, extra));
}

function start2({ name, at }) {
  const head = at + 30 + name.length + 20;
  return name === "weights.bin" ? Math.ceil((head + 4) / PAGE) * PAGE : head;
}

function local2(member) {
  const { name, size, at } = member;
  let extra = concat(u16(1, 16), u64(size, size));
  if (name === "weights.bin") {
    const room = start2(member) - (at + 30 + name.length + extra.length) - 4;
    extra = concat(extra, u16(0xd935, room), new Uint8Array(room));
  }
  return concat(LOCAL, common2(member, extra.length), utf8(name), extra);
}

function entry2(member) {
  const extra = concat(u16(1, 24), u64(member.size, member.size, member.at));
  const tail = concat(u16(0, 0, 0), u32(0, ELSEWHERE));
  return concat(CENTRAL, u16(45), common2(member, extra.length), tail, utf8(member.name), extra);
}

function u16(...numbers) {
  const view = new DataView(new ArrayBuffer(2 * numbers.length));
  numbers.forEach((number, i) => view.setUint16(2 * i, number, true));
  return new Uint8Array(view.buffer);
}

const TABLE = Uint32Array.from({ length: 256 }, (_, n) => {
  let value = n;
  for (let bit = 0; bit < 8; bit++) value = value & 1 ? 0xedb88320 ^ (value >>> 1) : value >>> 1;
  return value;
});

export function crc32(bytes) {
  let value = 0xffffffff;
  for (let i = 0; i < bytes.length; i++) value = TABLE[(value ^ bytes[i]) & 0xff] ^ (value >>> 8);
  return (value ^ 0xffffffff) >>> 0;
}

