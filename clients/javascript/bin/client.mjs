// Predict one image with the key here and the model at a host without it:
// node client.mjs PACKAGE BUNDLE KEY IMAGE HEIGHT WIDTH OUT URL MODEL. The Python tests
// compare OUT with what the session in Python gives.

import { readFileSync, writeFileSync } from "node:fs";

import { Identity, ModelKey, Preprocess, remoteModel } from "../src/index.js";

const [what, bundle, key, image, height, width, out, url, model] = process.argv.slice(2);
const ort = await import(what);
const bytes = (path) => new Uint8Array(readFileSync(path));
try {
  const text = readFileSync(key, "utf8");
  const opener = text.includes("MLGUARD-IDENTITY") ? Identity.parse(text) : ModelKey.parse(text);
  const client = await Preprocess.open(ort, bytes(bundle), opener, { name: bundle });
  const infer = remoteModel(url, model, client.tensors);
  const found = await client.predict(bytes(image), Number(height), Number(width), infer);
  writeFileSync(out, typeof found === "number" ? Uint8Array.of(found) : found);
} catch (refusal) {
  console.log(`${refusal.name}: ${refusal.message}`);
  process.exitCode = 1;
}
