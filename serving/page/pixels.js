// Bytes of images: from and to base64, onto a canvas, to another size.

export function toBytes(base64) {
  return Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
}

export function toBase64(bytes) {
  let text = "";
  for (let start = 0; start < bytes.length; start += 0x8000) {
    text += String.fromCharCode(...bytes.subarray(start, start + 0x8000));
  }
  return btoa(text);
}

/** Draw bytes of an image, one or three a pixel, on a canvas that takes its size. */
export function paint(canvas, bytes, height, width, colour = grey) {
  const channels = bytes.length / (height * width);
  canvas.width = width;
  canvas.height = height;
  const image = new ImageData(width, height);
  for (let pixel = 0; pixel < height * width; pixel++) {
    const value = bytes[pixel * channels];
    image.data.set(channels === 3 ? bytes.subarray(3 * pixel, 3 * pixel + 3) : colour(value), 4 * pixel);
    image.data[4 * pixel + 3] = 255;
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
}

const grey = (value) => [value, value, value];

/** The colours of feature maps: from dark over blue to white. */
export function heat(value) {
  return HEAT[value];
}

const STOPS = [[13, 17, 23], [31, 95, 208], [150, 200, 255], [255, 255, 255]];
const HEAT = Array.from({ length: 256 }, (_, value) => {
  const place = (value / 255) * (STOPS.length - 1);
  const from = Math.min(Math.floor(place), STOPS.length - 2);
  return STOPS[from].map((start, i) => start + (place - from) * (STOPS[from + 1][i] - start));
});

/** Grey pixels as a model of another size, or of colours, takes them. */
export function fitted(bytes, height, width, model) {
  const channels = model.image_channels || 1;
  if (height === model.image_height && width === model.image_width && channels === 1) return bytes;
  const before = document.createElement("canvas");
  paint(before, bytes, height, width);
  const after = document.createElement("canvas");
  [after.width, after.height] = [model.image_width, model.image_height];
  const context = after.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  context.drawImage(before, 0, 0, after.width, after.height);
  const { data } = context.getImageData(0, 0, after.width, after.height);
  return Uint8Array.from({ length: after.width * after.height * channels }, (_, i) => data[4 * Math.floor(i / channels)]);
}
