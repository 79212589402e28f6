// Choose a bundle, a key and an image; see the mask.

import * as ort from "../node_modules/onnxruntime-web/dist/ort.wasm.min.mjs";

import { Identity, ModelKey, Session } from "../src/index.js";

ort.env.wasm.wasmPaths = new URL("../node_modules/onnxruntime-web/dist/", import.meta.url).href;
ort.env.wasm.numThreads = 1; // more need headers that a plain file server does not send

const at = (id) => document.getElementById(id);
const status = (text) => (at("status").textContent = text);

document.querySelector("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  try {
    status("opening …");
    const started = performance.now();
    const session = await open(at("bundle").files[0], at("key").files[0]);
    const opened = performance.now();
    const image = await pixelsOf(at("image").files[0]);
    const mask = await session.predict(image.planes, image.height, image.width);
    draw(mask, image, session);
    const [open_ms, predict_ms] = [opened - started, performance.now() - opened];
    status(`opened in ${open_ms.toFixed(0)} ms, predicted in ${predict_ms.toFixed(0)} ms`);
  } catch (refusal) {
    status(`${refusal.name}: ${refusal.message}`);
  }
});

async function open(bundle, key) {
  const text = await key.text();
  const opener = text.includes("MLGUARD-IDENTITY") ? Identity.parse(text) : ModelKey.parse(text);
  const bytes = new Uint8Array(await bundle.arrayBuffer());
  return Session.open(ort, bytes, opener, { name: bundle.name });
}

/** An image's pixels as (3, H, W), and as the canvas has them. */
async function pixelsOf(file) {
  const bitmap = await createImageBitmap(file, { colorSpaceConversion: "none" });
  const { width, height } = bitmap;
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d");
  context.drawImage(bitmap, 0, 0);
  const { data } = context.getImageData(0, 0, width, height);
  const planes = new Uint8Array(3 * width * height);
  for (let i = 0; i < width * height; i++) {
    for (let c = 0; c < 3; c++) planes[c * width * height + i] = data[4 * i + c];
  }
  return { planes, data, width, height };
}

function draw(mask, { data, width, height }, session) {
  if (typeof mask === "number") {
    const names = session.manifest.class_names ?? session.manifest.task.class_names;
    window.answer = mask;
    return status(`class ${mask}: ${names[mask]}`);
  }
  window.answer = Array.from(mask);
  const colours = Array.from(mask, colourOf);
  paint(at("mask"), width, height, (i, c) => colours[i][c]);
  paint(at("overlay"), width, height, (i, c) => (data[4 * i + c] + colours[i][c]) / 2);
}

function paint(canvas, width, height, value) {
  Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d");
  const image = context.createImageData(width, height);
  for (let i = 0; i < width * height; i++) {
    for (let c = 0; c < 3; c++) image.data[4 * i + c] = value(i, c);
    image.data[4 * i + 3] = 255;
  }
  context.putImageData(image, 0, 0);
}

/** The colour of a class in PASCAL VOC's palette: bits of its number, spread out. */
function colourOf(number) {
  const colour = [0, 0, 0];
  for (let bit = 7; number; bit--, number >>= 3) {
    for (let c = 0; c < 3; c++) colour[c] |= ((number >> c) & 1) << bit;
  }
  return colour;
}
