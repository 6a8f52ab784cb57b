// The page: draw, ask, show. Start here.

import { say } from "./status.js";
import { showAnswer, showNothing, showStale, speak } from "./answer.js";
import { Asker } from "./asker.js";
import { Drawing, inked } from "./drawing.js";
import { hideLayers, showLayers } from "./layers.js";
import { encoded, encodedPhoto, pictureIn, readPhoto } from "./photo.js";
import { fitted, toBase64, toBytes } from "./pixels.js";
import { loadSamples, markSample, showSamples } from "./samples.js";
import * as service from "./service.js";

const ASK_GAP_MS = 60; // between two questions while somebody draws
const REST_MS = 300; // after which the layers are asked for
const POLL_MS = 3000;
const POLL_SOON_MS = 1000; // while there is no model, or no service
const NOTICE_MS = 8000;
const NONE_READY = "No network is ready yet, or it is away for a moment. This page goes on by itself.";

const byId = (id) => document.getElementById(id);
const paper = byId("paper");
let model = null;
let samples = [];
let resting = 0;
let following = null; // the question which version answers, while it is on its way
let blindVersion = null; // the version that is known to have no feature maps
let isAway = false; // whether there was no model, or no service, when last asked

const drawing = new Drawing(byId("drawing"), { changed, penMoved: (text) => speak(text, 0) });
const answers = new Asker({ ask: classify, heard: answered, failed: notAnswered, gapMs: ASK_GAP_MS });
const maps = new Asker({ ask: lookInside, heard: seenInside, failed: notSeenInside });

function changed(picture) {
  byId("invitation").classList.toggle("gone", !drawing.isEmpty);
  byId("undo").disabled = !drawing.canUndo;
  byId("clear").disabled = drawing.isEmpty;
  markSample(picture.sample);
  say("photo");
  clearTimeout(resting);
  maps.forget();
  if (drawing.isEmpty) {
    answers.forget();
    nothingToSee();
  } else if (!drawing.isUnderHand || picture.strokes.at(-1).length > 2) {
    answers.want(picture); // else it has hardly begun
  }
}

function nothingToSee() {
  say("answer");
  showStale(false);
  showNothing(model);
  hideLayers();
  byId("inside-note").hidden = false;
}

/** Ask for one picture; photos and drawings are made into images by the service. */
async function classify(picture) {
  if (!model) await follow();
  const begun = performance.now();
  const timed = (answer, pixels) => ({ answer, pixels, latencyMs: performance.now() - begun });
  if (picture.sample) {
    const { bytes, height, width } = picture.sample;
    const pixels = toBase64(fitted(bytes, height, width, model));
    return timed(await service.classifyPixels(pixels), pixels);
  }
  const photo = await (picture.photo ? encodedPhoto(picture.photo) : encoded(inked(picture.strokes), "image/png"));
  const answer = await service.classifyPhoto(photo);
  return timed(answer, answer.pixels);
}

async function answered({ answer, pixels, latencyMs }, picture) {
  say("answer");
  if (answer.model_version !== model.model_version) await follow().catch(known);
  if (answer.model_version !== model.model_version) return askAgain(); // older than what answers now
  if (drawing.isEmpty) return; // cleared meanwhile
  showStale(false);
  showAnswer({ answer, model, bytes: toBytes(pixels), latencyMs, sample: picture.sample });
  clearTimeout(resting);
  if (blindVersion === model.model_version) return;
  resting = setTimeout(() => maps.want({ picture, pixels, probabilities: answer.probabilities }), REST_MS);
}

function askAgain() {
  if (!drawing.isEmpty) answers.want(drawing.picture);
}

function notAnswered(error, picture) {
  showStale(true);
  if (drawing.isUnderHand && !error.passes) return; // there is more to come
  if (error.passes) return say("answer", waiting(error));
  if (error.code !== service.INVALID_ARGUMENT) return say("answer", `The service refuses: ${error.message}`);
  if (picture === drawing.picture) showNothing(model);
  const isOfOtherSize = picture.sample !== null; // the model has changed, and takes other images
  say("answer", isOfOtherSize ? "" : sentence(error.message));
  if (isOfOtherSize) follow().then(askAgain, known);
}

/** A refusal is told of by who was refused; anything else is a fault of this page. */
function known(error) {
  if (!(error instanceof service.Refusal)) throw error;
}

function waiting(error) {
  if (error.reason === "NO_MODEL") return "No model has been published yet. This page goes on by itself when there is one.";
  if (error.code === service.RESOURCE_EXHAUSTED) return "The service is busy. Trying again …";
  if (error.code === service.DEADLINE_EXCEEDED) return "The answer takes too long. Trying again …";
  if (error.code === service.OFFLINE) return "The service does not answer. This page goes on by itself when it does.";
  if (error.code === service.UNAVAILABLE && !error.reason) return NONE_READY; // whoever stands before the service says so
  return `The service cannot answer now: ${error.message}. Trying again …`;
}

/** A server's message names fields; a person reads what is wrong. */
const sentence = (message) => `This picture cannot be read: ${message.replace(/^photos\[\d+\]: /, "")}`;

function lookInside({ pixels }) {
  return service.getFeatureMaps(pixels);
}

function seenInside({ layers, model_version: version }, { picture, pixels, probabilities }) {
  if (picture !== drawing.picture || version !== model.model_version) return;
  byId("inside-note").hidden = true;
  const { image_height: height, image_width: width, labels } = model;
  showLayers({ layers, image: toBytes(pixels), height, width, labels, probabilities });
}

function notSeenInside(error, { picture }) {
  const isMissing = [service.NOT_FOUND, service.UNIMPLEMENTED].includes(error.code);
  if (error.passes || (picture !== drawing.picture && !isMissing)) return;
  if (isMissing) blindVersion = model.model_version;
  hideLayers();
  byId("inside-note").hidden = false;
  byId("inside-note").textContent = isMissing
    ? `Version ${model.model_version} was published without what its layers see.`
    : `What the layers see cannot be shown: ${error.message}`;
}

/** Ask which version answers, and tell of a new one; whoever asks meanwhile waits for the same answer. */
function follow() {
  following ??= newest().finally(() => (following = null));
  return following;
}

async function newest() {
  const before = model;
  model = await service.getModel();
  say("service");
  if (before?.model_sha256 === model.model_sha256 && before.model_version === model.model_version) return;
  blindVersion = null;
  byId("inside-note").textContent = "Draw something, and every layer shows what it made of it.";
  describe();
  if (before) say("notice", `Now version ${model.model_version} answers.`, NOTICE_MS);
  offerSamples();
  if (drawing.isEmpty) showNothing(model);
  else answers.want(drawing.picture);
}

function offerSamples() {
  showSamples(samples, model.labels, (sample) => drawing.show({ sample }));
  markSample(drawing.picture.sample);
}

function describe() {
  const { labels, accuracy, created, model_version: version } = model;
  const isDigits = labels.every((label) => /^\d$/.test(label));
  const few = labels.length <= 6 ? labels.join(", ") : `${labels.slice(0, 5).join(", ")} …`;
  byId("title").textContent = document.title = isDigits ? "Draw a digit" : `Draw one of ${few}`;
  const day = created ? new Date(created).toLocaleDateString("en-GB", { day: "numeric", month: "long", year: "numeric" }) : "";
  const rightly = accuracy ? `${(100 * accuracy).toFixed(2)} % of test images right` : "";
  byId("model").textContent = [`Version ${version}`, rightly, day]
    .filter(Boolean)
    .map((part) => part.replaceAll(" ", "\u00a0")) // each stays on one line
    .join(" · ");
}

async function watch() {
  let pauseMs = POLL_MS;
  try {
    if (!document.hidden || !model) await follow();
    if (isAway) for (const asker of [answers, maps]) asker.hurry();
    isAway = false;
  } catch (error) {
    known(error);
    say("service", error.passes ? waiting(error) : `The service refuses: ${error.message}`);
    isAway = true;
    pauseMs = POLL_SOON_MS;
  } finally {
    setTimeout(watch, pauseMs);
  }
}

async function usePhoto(file) {
  if (!file) return;
  try {
    drawing.show({ photo: await readPhoto(file) });
  } catch (error) {
    say("photo", error.message);
  }
}

byId("undo").addEventListener("click", () => drawing.undo());
byId("clear").addEventListener("click", () => drawing.clear());
byId("choose").addEventListener("click", () => byId("file").click());
byId("file").addEventListener("change", (event) => {
  usePhoto(event.target.files[0]);
  event.target.value = ""; // so that the same file can be chosen again
});
addEventListener("keydown", (event) => {
  if (event.key === "Escape") drawing.clear();
  if (event.key.toLowerCase() === "z" && (event.ctrlKey || event.metaKey) && !event.shiftKey) {
    event.preventDefault();
    drawing.undo();
  }
});
addEventListener("paste", (event) => usePhoto(pictureIn(event.clipboardData)));
addEventListener("dragover", (event) => {
  event.preventDefault();
  paper.classList.add("over");
});
addEventListener("dragleave", (event) => event.relatedTarget ?? paper.classList.remove("over"));
addEventListener("drop", (event) => {
  event.preventDefault();
  paper.classList.remove("over");
  usePhoto(pictureIn(event.dataTransfer));
});
addEventListener("online", () => answers.hurry());
document.addEventListener("visibilitychange", () => document.hidden || answers.hurry());

nothingToSee();
watch();
samples = await loadSamples();
if (model) offerSamples();
