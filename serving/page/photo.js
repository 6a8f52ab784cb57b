// A picture file that somebody chose, dropped or pasted, made small enough to be sent.

import { toBase64 } from "./pixels.js";

const LONGEST_SIDE = 1024;
const LONGEST_CLEAR_SIDE = 768; // sent without loss: whatever is in it, a request has room for it
const QUALITY = 0.92;

/** A canvas with the picture in it, upright and small, see-through where it was. Says by an Error what is no picture. */
export async function readPhoto(file) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(file, { imageOrientation: "from-image" });
  } catch {
    throw new Error(`${file.name || "That"} is no picture that this browser can read: JPEG, PNG and WebP are.`);
  }
  const large = fitting(bitmap, LONGEST_SIDE);
  const canvas = isOpaque(large) ? large : fitting(bitmap, LONGEST_CLEAR_SIDE);
  bitmap.close();
  return canvas;
}

function fitting(bitmap, longestSide) {
  const scale = Math.min(1, longestSide / Math.max(bitmap.width, bitmap.height));
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [bitmap.width, bitmap.height].map((side) => Math.max(1, Math.round(side * scale)));
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  return canvas;
}

/** Whether nothing shines through. */
function isOpaque(canvas) {
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  for (let alpha = 3; alpha < data.length; alpha += 4) {
    if (data[alpha] < 255) return false;
  }
  return true;
}

/** A white canvas. */
export function sheet(width, height) {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [width, height];
  const context = canvas.getContext("2d");
  context.fillStyle = "#fff";
  context.fillRect(0, 0, width, height);
  return [canvas, context];
}

/** The canvas as a file, in base64. */
export async function encoded(canvas, type) {
  const blob = await new Promise((done) => canvas.toBlob(done, type, QUALITY));
  return toBase64(new Uint8Array(await blob.arrayBuffer()));
}

/** A photo as a file, in base64: PNG where the service is to choose a ground for what is drawn on none. */
export const encodedPhoto = (canvas) => encoded(canvas, isOpaque(canvas) ? "image/jpeg" : "image/png");

/** The first picture among what was dropped or pasted, if there is any. */
export function pictureIn(transfer) {
  return [...(transfer?.files ?? [])].find((file) => file.type.startsWith("image/")) ?? transfer?.files?.[0];
}
