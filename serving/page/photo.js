// A picture file that somebody chose, dropped or pasted, made small enough to be sent.

import { toBase64 } from "./pixels.js";

const LONGEST_SIDE = 1024;
const QUALITY = 0.92;

/** A canvas with the picture in it, upright, no side longer than 1024 pixels. Says by an Error what is no picture. */
export async function readPhoto(file) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(file, { imageOrientation: "from-image" });
  } catch {
    throw new Error(`${file.name || "That"} is no picture that this browser can read: JPEG, PNG and WebP are.`);
  }
  const scale = Math.min(1, LONGEST_SIDE / Math.max(bitmap.width, bitmap.height));
  const [canvas, context] = sheet(Math.max(1, Math.round(bitmap.width * scale)), Math.max(1, Math.round(bitmap.height * scale)));
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  bitmap.close();
  return canvas;
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

/** The first picture among what was dropped or pasted, if there is any. */
export function pictureIn(transfer) {
  return [...(transfer?.files ?? [])].find((file) => file.type.startsWith("image/")) ?? transfer?.files?.[0];
}
