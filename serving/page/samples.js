// The test images to try, from samples.json.

import { paint, toBytes } from "./pixels.js";

/** [{label, hard, bytes, height, width}, …] */
export async function loadSamples() {
  const response = await fetch("samples.json");
  if (!response.ok) throw new Error(`samples.json: HTTP status ${response.status}`);
  const { height, width, samples } = await response.json();
  return samples.map((sample) => ({ ...sample, bytes: toBytes(sample.pixels), height, width }));
}

/** One button each; only those whose label the model has. */
export function showSamples(samples, labels, choose) {
  const known = samples.filter(({ label }) => labels.includes(label));
  document.getElementById("try").hidden = known.length === 0;
  document.getElementById("samples").replaceChildren(...known.map((sample) => item(sample, choose)));
}

/** Which one is shown now, if any. */
export function markSample(sample) {
  for (const button of document.querySelectorAll("#samples button")) {
    button.setAttribute("aria-pressed", `${sample !== null && button.dataset.index === `${sample.index}`}`);
  }
}

function item(sample, choose) {
  const [row, button, canvas] = ["li", "button", "canvas"].map((tag) => document.createElement(tag));
  row.className = sample.hard ? "hard" : "";
  button.type = "button";
  button.dataset.index = sample.index;
  button.setAttribute("aria-label", `Test image of a ${sample.label}${sample.hard ? ", hard to read" : ""}`);
  button.setAttribute("aria-pressed", "false");
  paint(canvas, sample.bytes, sample.height, sample.width);
  button.addEventListener("click", () => choose(sample));
  button.append(canvas);
  row.append(button);
  return row;
}
