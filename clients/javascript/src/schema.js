// What a value has to look like, said in a few words and checked in one place.

import { Float, plain } from "./json.js";

const UNPRINTABLE = /[\p{C}\p{Zl}\p{Zp}]|(?! )\p{Zs}/u;

export const isPrintable = (text) => !UNPRINTABLE.test(text);

/** Throw a TypeError that says where and what. */
function refuse(where, what) {
  throw new TypeError(`${where}: expected ${what}`);
}

export const check = (fits, what) => (value, where) => {
  if (!fits(value)) refuse(where, what);
};

export const flag = check((v) => typeof v === "boolean", "true or false");
export const nothing = check((v) => v === null, "null");
// Where a number may have digits behind its point, it is written with one: 1.0, never 1.
export const number = check((v) => v instanceof Float && Number.isFinite(v.value), "a number with a point");
export const positive = check((v) => v instanceof Float && v.value > 0, "a number above 0, with a point");
export const hex = (digits) =>
  check((v) => typeof v === "string" && v.length === digits && /^[0-9a-f]*$/.test(v), `${digits} hex digits`);
export const whole = (low, high) =>
  check((v) => Number.isSafeInteger(v) && v >= low && v <= high, `a whole number from ${low} to ${high}`);
export const oneOf = (...words) => check((v) => words.includes(v), words.join(" or "));
export const matching = (pattern, high) =>
  check((v) => typeof v === "string" && v.length <= high && pattern.test(v), String(pattern));

/** Text of printable lines. */
export const text = (low = 0, high = Infinity) =>
  check(
    (v) => typeof v === "string" && [...v].length >= low && [...v].length <= high && v.split("\n").every(isPrintable),
    "printable text",
  );

/** One printable line. */
export const line = (high) =>
  check((v) => typeof v === "string" && v.trim() && [...v].length <= high && isPrintable(v), "a printable line");

export const orNull = (inner) => (value, where) => {
  if (value !== null) inner(value, where);
};

export const list = (inner, low = 0, high = Infinity) => (value, where) => {
  if (!Array.isArray(value) || value.length < low || value.length > high) refuse(where, "a list");
  value.forEach((one, i) => inner(one, `${where}.${i}`));
};

export const map = (inner, low = 0, high = Infinity) => (value, where) => {
  object(value, where);
  const entries = Object.entries(value);
  if (entries.length < low || entries.length > high) refuse(where, "an object");
  for (const [key, one] of entries) {
    text()(key, where);
    inner(one, `${where}.${key}`);
  }
};

/** An object with exactly these fields; `optional` ones may be missing. */
export const record = (fields, optional = {}) => (value, where) => {
  object(value, where);
  for (const key of Object.keys(value)) {
    if (!(key in fields) && !(key in optional)) refuse(`${where}.${key}`, "no such field");
  }
  for (const [key, inner] of Object.entries(fields)) {
    if (!(key in value)) refuse(`${where}.${key}`, "this field");
    inner(value[key], `${where}.${key}`);
  }
  for (const [key, inner] of Object.entries(optional)) {
    if (key in value) inner(value[key], `${where}.${key}`);
  }
};

/** Something more about a value that has the right form. */
export const and = (inner, ...more) => (value, where) => {
  inner(value, where);
  for (const [fits, what] of more) if (!fits(plain(value))) refuse(where, what);
};

function object(value, where) {
  if (Object(value) !== value || Array.isArray(value)) refuse(where, "an object");
}
