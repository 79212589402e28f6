// JSON that has one spelling for one content: any other is refused.
// docs/spec/bundle-v1.md, section 2.

import { fromUtf8 } from "./bytes.js";

const MAX_DEPTH = 32;
const SHORT = { 8: "\\b", 9: "\\t", 10: "\\n", 12: "\\f", 13: "\\r", 34: '\\"', 92: "\\\\" };

/** A number that was written with a point or an exponent. */
export class Float {
  constructor(value) {
    this.value = value;
  }
}

/**
 * Read canonical JSON: keys sorted by code point and none twice, no white space, no
 * escapes that are not needed, numbers in their shortest form.
 *
 * Numbers with a point or an exponent come as `Float`, others as numbers.
 *
 * @throws {SyntaxError} for every other spelling
 */
export function parseCanonical(bytes) {
  let text;
  try {
    text = fromUtf8(bytes);
  } catch {
    throw new SyntaxError("not UTF-8");
  }
  const reader = new Reader(text);
  const value = reader.value(0);
  if (reader.at !== text.length) throw new SyntaxError("something follows the value");
  return value;
}

class Reader {
  at = 0;

  constructor(text) {
    this.text = text;
  }

  value(depth) {
    if (depth > MAX_DEPTH) throw new SyntaxError("too deep");
    const next = this.text[this.at];
    if (next === "{") return this.object(depth);
    if (next === "[") return this.list(depth);
    if (next === '"') return this.string();
    for (const [word, value] of [["true", true], ["false", false], ["null", null]]) {
      if (this.text.startsWith(word, this.at)) {
        this.at += word.length;
        return value;
      }
    }
    return this.number();
  }

  object(depth) {
    const found = {};
    let last = null;
    this.at++;
    while (!this.ends("}", last === null)) {
      const key = this.string();
      if (last !== null && compare(last, key) >= 0) throw new SyntaxError("keys unsorted");
      this.expect(":");
      Object.defineProperty(found, key, {
        value: this.value(depth + 1), enumerable: true, configurable: true, writable: true,
      });
      last = key;
    }
    return found;
  }

  list(depth) {
    const found = [];
    this.at++;
    while (!this.ends("]", found.length === 0)) found.push(this.value(depth + 1));
    return found;
  }

  /** Whether a collection ends here; takes the comma before its next thing. */
  ends(bracket, first) {
    if (this.text[this.at] === bracket) {
      this.at++;
      return true;
    }
    if (!first) this.expect(",");
    return false;
  }

  expect(sign) {
    if (this.text[this.at++] !== sign) throw new SyntaxError(`expected ${sign}`);
  }

  string() {
    const start = this.at;
    const end = /"(?:[^"\\]|\\.)*"/sy;
    end.lastIndex = start;
    if (!end.test(this.text)) throw new SyntaxError("expected a string");
    this.at = end.lastIndex;
    const written = this.text.slice(start, this.at);
    const value = JSON.parse(written);
    if (!value.isWellFormed?.() && /[\ud800-\udfff]/u.test(value)) {
      throw new SyntaxError("half a character");
    }
    if (quoted(value) !== written) throw new SyntaxError("an escape that is not needed");
    return value;
  }

  number() {
    const token = /-?(?:0|[1-9]\d*)(\.\d+)?(e[+-]\d+)?/y;
    token.lastIndex = this.at;
    const match = token.exec(this.text);
    if (!match) throw new SyntaxError("expected a value");
    this.at = token.lastIndex;
    const value = Number(match[0]);
    const whole = match[1] === undefined && match[2] === undefined;
    if (whole && (!Number.isSafeInteger(value) || String(value) !== match[0])) {
      throw new SyntaxError("an integer in another spelling");
    }
    if (!whole && shortest(value) !== match[0]) {
      throw new SyntaxError("a number in another spelling");
    }
    return whole ? value : new Float(value);
  }
}

/** The same without the marks of numbers that had a point. */
export function plain(value) {
  if (value instanceof Float) return value.value;
  if (Array.isArray(value)) return value.map(plain);
  if (Object(value) !== value) return value;
  return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, plain(one)]));
}

/**
 * Read JSON in any spelling, in which no key stands twice in one object.
 *
 * @throws {SyntaxError} for anything else
 */
export function parseOnce(text) {
  const value = JSON.parse(text);
  const open = [];
  let last = null;
  for (const [token] of text.matchAll(/"(?:[^"\\]|\\.)*"|[{}[\]:]/gs)) {
    if (token === "{" || token === "[") open.push(new Set());
    else if (token === "}" || token === "]") open.pop();
    else if (token === ":") {
      const key = JSON.parse(last);
      if (open.at(-1).has(key)) throw new SyntaxError("a key twice");
      open.at(-1).add(key);
    }
    last = token;
  }
  return value;
}

/** A string as canonical JSON writes it. */
function quoted(value) {
  const escaped = Array.from(value, (sign) => {
    const code = sign.codePointAt(0);
    if (code in SHORT) return SHORT[code];
    return code < 32 ? `\\u${code.toString(16).padStart(4, "0")}` : sign;
  });
  return `"${escaped.join("")}"`;
}

/** A binary64 as Python's repr writes it: shortest digits, exponents from 16 on. */
function shortest(value) {
  if (!Number.isFinite(value)) return "";
  const [mantissa, power] = value.toExponential().split("e");
  const exponent = Number(power);
  if (exponent >= -4 && exponent < 16) {
    const plain = decimal(mantissa, exponent);
    return plain.includes(".") ? plain : `${plain}.0`;
  }
  const sign = exponent < 0 ? "-" : "+";
  return `${mantissa}e${sign}${String(Math.abs(exponent)).padStart(2, "0")}`;
}

function decimal(mantissa, exponent) {
  const sign = mantissa.startsWith("-") ? "-" : "";
  const digits = mantissa.replace(/[-.]/g, "");
  if (exponent < 0) return `${sign}0.${"0".repeat(-exponent - 1)}${digits}`;
  const whole = digits.slice(0, exponent + 1).padEnd(exponent + 1, "0");
  const rest = digits.slice(exponent + 1);
  return sign + whole + (rest ? `.${rest}` : "");
}

function compare(one, other) {
  const [a, b] = [Array.from(one), Array.from(other)];
  for (let i = 0; i < Math.min(a.length, b.length); i++) {
    const difference = a[i].codePointAt(0) - b[i].codePointAt(0);
    if (difference) return difference;
  }
  return a.length - b.length;
}
