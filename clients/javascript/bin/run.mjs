// Predict one image with one bundle: node run.mjs PACKAGE BUNDLE KEY IMAGE HEIGHT WIDTH
// OUT. The Python tests compare OUT with what the session in Python gives.

import { readFileSync, writeFileSync } from "node:fs";

import { ModelKey, Session } from "../src/index.js";

const [what, bundle, key, image, height, width, out] = process.argv.slice(2);
const ort = await import(what);
const bytes = (path) => new Uint8Array(readFileSync(path));
try {
  const session = await Session.open(ort, bytes(bundle), ModelKey.parse(readFileSync(key, "utf8")), {
    name: bundle,
    logSeverityLevel: 3,
  });
  const found = await session.predict(bytes(image), Number(height), Number(width));
  writeFileSync(out, typeof found === "number" ? Uint8Array.of(found) : found);
} catch (refusal) {
  console.log(`${refusal.name}: ${refusal.message}`);
  process.exitCode = 1;
}
