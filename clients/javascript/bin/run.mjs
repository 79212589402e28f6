// Predict one image with one bundle: node run.mjs PACKAGE BUNDLE KEY IMAGE HEIGHT WIDTH
// OUT. The Python tests compare OUT with what the session in Python gives.

import { readFileSync, writeFileSync } from "node:fs";

import { Identity, ModelKey, Session } from "../src/index.js";

const [what, bundle, key, image, height, width, out] = process.argv.slice(2);
const ort = await import(what);
const bytes = (path) => new Uint8Array(readFileSync(path));
try {
  const text = readFileSync(key, "utf8");
  const opener = text.includes("MLGUARD-IDENTITY") ? Identity.parse(text) : ModelKey.parse(text);
  const session = await Session.open(ort, bytes(bundle), opener, { name: bundle });
  const found = await session.predict(bytes(image), Number(height), Number(width));
  writeFileSync(out, typeof found === "number" ? Uint8Array.of(found) : found);
} catch (refusal) {
  console.log(`${refusal.name}: ${refusal.message}`);
  process.exitCode = 1;
}
