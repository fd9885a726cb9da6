// Pictures: from a file to a canvas, from a square of it to the pixels that the model gets.
import { COLUMNS, PATCH, SIDE } from "./model.js";
import { element } from "../../../vit_tutorial/widgets/static/draw.js";

const MOST_BYTES = 50e6;
const MOST_PIXELS = 64e6; // decoded, four bytes each
const [SHORT, LONG] = [768, 4096]; // sides of a picture as the page keeps it

// A white canvas whose pixels are read often, and its context.
export function paper(width, height) {
  const canvas = element("canvas", { width, height });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillStyle = "#fff";
  context.fillRect(0, 0, width, height);
  return [canvas, context];
}

// A file or blob as a canvas of a size that is quick to work with, turned as the camera says (EXIF). Throws an Error
// with a sentence where it is no picture, a broken one, or too large.
export async function readPicture(file) {
  const name = file.name ? `“${file.name.slice(0, 60)}”` : "the pasted picture";
  const stays = "The picture stays as it was:";
  if (file.size > MOST_BYTES) {
    const size = (file.size / 1e6).toFixed(0);
    throw new Error(`${stays} expected a file of at most 50 MB, found ${size} MB in ${name}; save a smaller copy.`);
  }
  const unreadable = `${stays} expected a JPEG, PNG, WebP or GIF file, but ${name} cannot be read; save it anew.`;
  const [X, Y] = await sizeOf(file).catch(() => {
    throw new Error(unreadable);
  });
  if (X * Y > MOST_PIXELS) {
    throw new Error(`${stays} expected at most 64 megapixels, found ${X} × ${Y} in ${name}; save a smaller copy.`);
  }
  const bitmap = await createImageBitmap(file, { imageOrientation: "from-image" }).catch(() => {
    throw new Error(unreadable);
  });
  const scale = Math.min(1, SHORT / Math.min(X, Y), LONG / Math.max(X, Y));
  const sides = [bitmap.width, bitmap.height].map((side) => Math.max(1, Math.round(scale * side)));
  const [canvas, context] = paper(...sides);
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  bitmap.close();
  return { canvas, about: `${name}, ${X} × ${Y} pixels` };
}

// Width and height from the file's head: nothing is decoded, so a small file of a vast picture costs nothing.
async function sizeOf(file) {
  const url = URL.createObjectURL(file);
  try {
    const image = new Image();
    await new Promise((onload, onerror) => Object.assign(image, { onload, onerror, src: url }));
    return [image.naturalWidth, image.naturalHeight];
  } finally {
    URL.revokeObjectURL(url);
  }
}

// What each of the model's pixels takes from a row of `side` pixels: triangles as wide as a pixel is, as in PyTorch's
// and Pillow's bilinear resizing with antialiasing. [first, weights] a pixel.
function triangles(side) {
  const scale = side / SIDE;
  const support = Math.max(1, scale);
  return Array.from({ length: SIDE }, (_, i) => {
    const centre = (i + 0.5) * scale;
    const first = Math.max(0, Math.floor(centre - support + 0.5));
    const end = Math.min(side, Math.floor(centre + support + 0.5));
    const weights = Array.from({ length: end - first }, (_, j) =>
      Math.max(0, 1 - Math.abs(first + j + 0.5 - centre) / support),
    );
    const sum = weights.reduce((a, b) => a + b);
    return [first, weights.map((weight) => weight / sum)];
  });
}

// The square {x, y, side} of a canvas as the model gets it: uint8 (3, 32, 32), channels first.
export function modelPixels(canvas, { x, y, side }) {
  const { data } = canvas.getContext("2d").getImageData(x, y, side, side);
  const taps = triangles(side);
  const narrow = new Uint8Array(3 * side * SIDE); // (3, side, 32), rounded, as PyTorch does
  for (let row = 0; row < side; row++) {
    taps.forEach(([first, weights], i) => {
      let [red, green, blue] = [0, 0, 0];
      for (let j = 0, at = 4 * (row * side + first); j < weights.length; j++, at += 4) {
        red += weights[j] * data[at];
        green += weights[j] * data[at + 1];
        blue += weights[j] * data[at + 2];
      }
      const to = row * SIDE + i;
      narrow[to] = Math.round(red);
      narrow[to + side * SIDE] = Math.round(green);
      narrow[to + 2 * side * SIDE] = Math.round(blue);
    });
  }
  const pixels = new Uint8Array(3 * SIDE * SIDE);
  for (let channel = 0; channel < 3; channel++) {
    taps.forEach(([first, weights], i) => {
      for (let column = 0; column < SIDE; column++) {
        let sum = 0;
        weights.forEach((weight, j) => (sum += weight * narrow[(channel * side + first + j) * SIDE + column]));
        pixels[(channel * SIDE + i) * SIDE + column] = Math.round(sum);
      }
    });
  }
  return pixels;
}

// The picture's mean colour: what a covered patch gets, as in `vit_tutorial.interpret.occlusion`.
export function meanColour(pixels) {
  const area = SIDE * SIDE;
  return [0, 1, 2].map((c) => Math.round(pixels.subarray(c * area, (c + 1) * area).reduce((a, b) => a + b, 0) / area));
}

// The picture with the patches of `covered` (an iterable of their numbers) in one colour.
export function cover(pixels, covered, colour) {
  const result = pixels.slice();
  for (const patch of covered) {
    const [top, left] = [Math.floor(patch / COLUMNS) * PATCH, (patch % COLUMNS) * PATCH];
    for (let channel = 0; channel < 3; channel++) {
      for (let y = top; y < top + PATCH; y++) {
        const start = (channel * SIDE + y) * SIDE + left;
        result.fill(colour[channel], start, start + PATCH);
      }
    }
  }
  return result;
}

// Channels first to RGB after RGB.
export function interleaved(pixels) {
  const area = pixels.length / 3;
  return Uint8Array.from(pixels, (_, i) => pixels[(i % 3) * area + Math.floor(i / 3)]);
}
