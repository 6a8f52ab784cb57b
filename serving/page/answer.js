// Shows one answer: the label, how sure it is, every probability, what the model saw, and in words.

import { paint } from "./pixels.js";

const MOST_BARS = 12;
const SURE = 0.8;
const SPEAK_AFTER_MS = 700;

const byId = (id) => document.getElementById(id);
let speaking = 0;

/** "98.2 %"; what is nearly nothing, or nearly all, is said so. */
export function percent(share) {
  if (share < 0.0005) return "< 0.1 %";
  if (share > 0.9995) return "> 99.9 %";
  return `${(100 * share).toFixed(1)} %`;
}

/** The labels from the most to the least probable: [[label, probability, place], …]. */
export function ranked(labels, probabilities) {
  return probabilities.map((share, place) => [labels[place] ?? `${place}`, share, place]).sort((a, b) => b[1] - a[1]);
}

export function showAnswer({ answer, model, bytes, latencyMs, sample }) {
  const order = ranked(model.labels, answer.probabilities);
  const [[label, share], [second, secondShare]] = [order[0], order[1] ?? ["", 0]];
  bigLabel(label);
  byId("confidence").textContent = percent(share);
  byId("remark").replaceChildren(...remark({ label, share, second, secondShare, sample }));
  const shown = order.length > MOST_BARS ? order.slice(0, MOST_BARS) : [...order].sort((a, b) => a[2] - b[2]);
  bars(shown, label);
  const hasSize = bytes.length && bytes.length % (model.image_height * model.image_width) === 0;
  if (hasSize) paint(byId("seen"), bytes, model.image_height, model.image_width);
  byId("seen").setAttribute("aria-label", `What the model saw: ${model.image_width} by ${model.image_height} pixels`);
  byId("facts").textContent = `version ${answer.model_version} on ${provider(answer.provider)} · ${Math.round(latencyMs)} ms there and back`;
  speak(`${label}, ${Math.round(100 * share)} %`);
}

export function showNothing(model) {
  bigLabel("");
  for (const id of ["confidence", "remark", "facts"]) byId(id).textContent = "";
  bars((model?.labels ?? []).slice(0, MOST_BARS).map((label, place) => [label, 0, place]), null);
  paint(byId("seen"), new Uint8Array(1), 1, 1);
  byId("seen").setAttribute("aria-label", "What the model saw: nothing yet");
  clearTimeout(speaking);
  byId("spoken").textContent = "";
}

/** An answer to what is no longer drawn, or to what could not be sent. */
export function showStale(isStale) {
  document.querySelector(".answer").classList.toggle("stale", isStale);
}

/** Say it once the drawing rests, and once. */
export function speak(text, afterMs = SPEAK_AFTER_MS) {
  clearTimeout(speaking);
  speaking = setTimeout(() => {
    byId("spoken").textContent = text;
  }, afterMs);
}

/** "CPUExecutionProvider" is "CPU". */
export const provider = (name) => name.replace(/ExecutionProvider$/, "");

function bigLabel(label) {
  const big = byId("label");
  big.textContent = label || "?";
  big.classList.toggle("word", label.length > 2);
  big.classList.toggle("none", !label);
}

function remark({ label, share, second, secondShare, sample }) {
  if (sample) {
    const isRight = sample.label === label;
    const verdict = document.createElement("span");
    verdict.textContent = isRight ? "right" : "wrong";
    verdict.classList.toggle("bad", !isRight);
    return [`labelled ${sample.label}: `, verdict];
  }
  return share < SURE && second ? [`or ${second}: ${percent(secondShare)}`] : [];
}

function bars(shown, top) {
  const list = byId("bars");
  const names = shown.map(([label]) => label).join("\n");
  if (list.dataset.names !== names) {
    list.dataset.names = names;
    list.classList.toggle("words", shown.some(([label]) => label.length > 2));
    list.replaceChildren(...shown.map(([label]) => bar(label)));
  }
  shown.forEach(([label, share], i) => {
    const row = list.children[i];
    row.classList.toggle("top", label === top);
    row.querySelector(".fill").style.transform = `translateX(${100 * share - 100}%)`;
    row.querySelector(".share").textContent = top === null ? "" : percent(share);
  });
}

function bar(label) {
  const row = document.createElement("li");
  const [name, track, fill, share] = ["span", "div", "div", "span"].map((tag) => document.createElement(tag));
  [name.className, track.className, fill.className, share.className] = ["name", "track", "fill", "share"];
  name.textContent = label;
  track.append(fill);
  row.append(name, track, share);
  return row;
}
