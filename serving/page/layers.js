// What the network sees: the image, the maps behind each layer, and what the readout makes of the last.

import { ranked, percent } from "./answer.js";
import { heat, paint, toBytes } from "./pixels.js";

// What a layer does, by how its name begins: the first of its kind, and those after it.
const LESSONS = [
  [
    "convolution",
    "Each map is a weighted sum of shifted copies of the image; ReLU keeps what is above zero. Edges come out.",
    "The same, over all maps before: edges join into shapes.",
  ],
  [
    "pooling",
    "One pixel stands for a small window: less to compute, and small shifts matter less.",
    "Smaller again: what is there counts more than where it is.",
  ],
];
const IMAGE = "All that the network is given.";
const READOUT = "Each pixel of the last maps votes for or against each label; softmax turns the sums into probabilities.";
const LARGEST_MAP = 100; // CSS pixels
const MANY = 16; // from here on maps are drawn smaller

const list = document.getElementById("layers");

export function showLayers({ layers, image, height, width, labels, probabilities }) {
  const stations = [
    { name: "the image", lesson: IMAGE, maps: [image], height, width, minimum: 0, maximum: 255, colour: undefined },
    ...layers.map((layer, i) => fromLayer(layer, layers.slice(0, i))),
  ];
  const shape = JSON.stringify(stations.map(({ name, maps, height: rows, width: columns }) => [name, maps.length, rows, columns]));
  if (list.dataset.shape !== shape) {
    list.replaceChildren(...stations.map(station), readout());
    list.dataset.shape = shape;
  }
  stations.forEach((one, i) => fill(list.children[i], one));
  fillReadout(list.lastElementChild, labels, probabilities);
}

export function hideLayers() {
  list.replaceChildren();
  delete list.dataset.shape;
}

function fromLayer({ name, feature_count: count, height, width, intensities, minimum, maximum }, before) {
  const bytes = toBytes(intensities);
  const maps = Array.from({ length: count }, (_, i) => bytes.subarray(i * height * width, (i + 1) * height * width));
  const [kind, first, later] = LESSONS.find(([beginning]) => name.startsWith(beginning)) ?? [];
  const lesson = (before.some((layer) => kind && layer.name.startsWith(kind)) ? later : first) ?? "";
  return { name, lesson, maps, height, width, minimum, maximum, colour: heat };
}

function element(tag, className, text = "") {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = text;
  return made;
}

function words(name, size, lesson) {
  const box = element("div", "about");
  const facts = element("p", "size");
  facts.append(element("span", "", size), element("span", "range"));
  box.append(element("h3", "", name), facts, element("p", "lesson", lesson));
  return box;
}

function station({ name, lesson, maps, height, width }) {
  const row = element("li", "");
  const size = `${maps.length > 1 ? `${maps.length} maps of ` : ""}${width} × ${height}`;
  const box = words(name, size, lesson);
  const strip = element("div", "maps");
  strip.setAttribute("role", "group");
  strip.setAttribute("aria-label", `${name}: ${size}${maps.length > 1 ? "; arrow keys go from map to map" : ""}`);
  strip.append(...maps.map((_, i) => map(i, mapSide(maps.length, height, width))));
  strip.addEventListener("keydown", walk);
  row.append(box, strip);
  return row;
}

/** Later maps are smaller, as they have fewer pixels, but never so small that nothing is seen. */
function mapSide(count, height, width) {
  const side = LARGEST_MAP * Math.min(1, Math.sqrt(Math.max(height, width) / 28));
  return Math.round(count >= MANY ? 0.6 * side : side);
}

function map(i, side) {
  const canvas = element("canvas", "");
  canvas.setAttribute("role", "img");
  canvas.tabIndex = i ? -1 : 0; // one stop of the Tab key a layer
  canvas.style.width = `${side}px`;
  return canvas;
}

function fill(row, { name, maps, height, width, minimum, maximum, colour }) {
  const range = row.querySelector(".range");
  const all = ` · ${number(minimum)} to ${number(maximum)}`;
  range.textContent = all;
  [...row.querySelectorAll("canvas")].forEach((canvas, i) => {
    const bytes = maps[i];
    paint(canvas, bytes, height, width, bytes.length === height * width ? colour : undefined);
    if (name === "the image") {
      canvas.setAttribute("aria-label", "the image");
      return;
    }
    const value = (byte) => number(minimum + (byte / 255) * (maximum - minimum));
    const told = `map ${i + 1}: ${value(Math.min(...bytes))} to ${value(Math.max(...bytes))}`;
    canvas.setAttribute("aria-label", told);
    canvas.onpointerenter = canvas.onfocus = () => (range.textContent = ` · ${told}`);
    canvas.onpointerleave = canvas.onblur = () => (range.textContent = all);
  });
}

const number = (value) => (Math.abs(value) < 0.005 ? "0" : value.toPrecision(3));

/** Arrow keys go from map to map. */
function walk(event) {
  const maps = [...event.currentTarget.children];
  const at = maps.indexOf(event.target);
  const next = maps[{ ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: maps.length - 1 }[event.key]];
  if (!next) return;
  event.preventDefault();
  event.target.tabIndex = -1;
  next.tabIndex = 0;
  next.focus();
}

function readout() {
  const row = element("li", "");
  row.append(words("readout", "", READOUT), element("div", "columns"));
  return row;
}

function fillReadout(row, labels, probabilities) {
  const shown = ranked(labels, probabilities);
  const [[top]] = shown;
  row.querySelector(".size span").textContent = `${labels.length} probabilities`;
  const columns = row.querySelector(".columns");
  columns.setAttribute("role", "img");
  columns.setAttribute("aria-label", `most probable: ${top}, ${percent(shown[0][1])}`);
  const kept = shown.slice(0, 12).sort((a, b) => a[2] - b[2]);
  columns.replaceChildren(
    ...kept.map(([label, share]) => {
      const column = element("div", label === top ? "top" : "");
      const height = element("i", "");
      height.style.height = `${Math.max(0.02, share) * 70}%`;
      column.append(height, label);
      return column;
    }),
  );
}
