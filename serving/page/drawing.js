// The paper: strokes by finger, pen, mouse or keyboard, a photo, or a test image; undo and clear.

import { sheet } from "./photo.js";

const STROKE = 0.065; // of the paper's side
const STEP = 0.03;
const LONG_STEP = 0.12;
const LEAST_MOVE = 0.003;
const SENT_SIDE = 280; // pixels of the picture that is sent
const MARGIN = 0.06;
const GREY = "#8a8a8a"; // dark ink and light are seen on it

const EMPTY = { strokes: [], photo: null, sample: null };
const isEmpty = ({ strokes, photo, sample }) => !strokes.length && !photo && !sample;

export class Drawing {
  picture = EMPTY;
  #history = [];
  #pointer = null; // the one that draws
  #pen = { x: 0.5, y: 0.5, isDown: false, isShown: false };
  #frame = 0;

  /** `changed(picture)` is told of every change, `penMoved(text)` what the keyboard did to the pen. */
  constructor(canvas, { changed, penMoved }) {
    Object.assign(this, { canvas, changed, penMoved });
    for (const [type, act] of Object.entries({
      pointerdown: this.#begin, pointermove: this.#go, pointerup: this.#end, pointercancel: this.#end,
      keydown: this.#key, focus: this.#focus, blur: this.#blur,
    })) {
      canvas.addEventListener(type, act.bind(this));
    }
    new ResizeObserver(() => this.redraw()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.redraw());
  }

  get isEmpty() {
    return isEmpty(this.picture);
  }

  /** Whether a stroke is being drawn by finger, pen or mouse. */
  get isUnderHand() {
    return this.#pointer !== null;
  }

  get canUndo() {
    return this.#history.length > 0;
  }

  show(picture) {
    this.#keep({ ...EMPTY, ...picture });
  }

  clear() {
    if (!this.isEmpty) this.#keep(EMPTY);
  }

  undo() {
    if (!this.canUndo || this.#pointer !== null) return;
    this.#liftPen();
    this.#set(this.#history.pop());
  }

  redraw() {
    this.#frame ||= requestAnimationFrame(() => {
      this.#frame = 0;
      this.#draw();
    });
  }

  #keep(picture) {
    this.#liftPen();
    this.#pointer = null; // a stroke in the making ends here
    this.#history.push(this.picture);
    this.#set(picture);
  }

  #set(picture) {
    this.picture = picture;
    this.redraw();
    this.changed(picture);
  }

  /** A new stroke begins on what is drawn, or in place of a photo. */
  #beginStroke(point) {
    this.#history.push(this.picture);
    this.#set({ ...EMPTY, strokes: [...this.picture.strokes, [point]] });
  }

  #extend(point) {
    const stroke = this.picture.strokes.at(-1);
    const [x, y] = stroke.at(-1);
    if (Math.hypot(point[0] - x, point[1] - y) < LEAST_MOVE) return;
    stroke.push(point);
    this.#set({ ...this.picture }); // another picture: what is known of the last may not hold for it
  }

  #begin(event) {
    if (this.#pointer !== null || event.button !== 0) return;
    this.#liftPen();
    this.#pen.isShown = false;
    this.#pointer = event.pointerId;
    this.canvas.setPointerCapture(event.pointerId);
    this.#beginStroke(this.#place(event));
  }

  #go(event) {
    if (event.pointerId !== this.#pointer) return;
    const events = event.getCoalescedEvents?.() ?? [];
    for (const one of events.length ? events : [event]) this.#extend(this.#place(one));
  }

  #end(event) {
    if (event.pointerId !== this.#pointer) return;
    this.#pointer = null;
    this.#set(this.picture);
  }

  #place(event) {
    const box = this.canvas.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
  }

  #key(event) {
    const pen = this.#pen;
    const step = event.shiftKey ? LONG_STEP : STEP;
    const [right, down] = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] }[event.key] ?? [];
    if (event.key !== " " && right === undefined) return;
    event.preventDefault();
    pen.isShown = true;
    if (event.key === " ") {
      pen.isDown = !pen.isDown;
      if (pen.isDown) this.#beginStroke([pen.x, pen.y]);
      this.penMoved(pen.isDown ? "pen down" : "pen up");
    } else {
      pen.x = Math.min(1, Math.max(0, pen.x + right));
      pen.y = Math.min(1, Math.max(0, pen.y + down));
      if (pen.isDown) this.#extend([pen.x, pen.y]);
    }
    this.redraw();
  }

  #focus() {
    this.#pen.isShown = this.canvas.matches(":focus-visible");
    this.redraw();
  }

  #blur() {
    this.#liftPen();
    this.#pen.isShown = false;
    this.redraw();
  }

  #liftPen() {
    this.#pen.isDown = false;
  }

  #draw() {
    const { canvas, picture } = this;
    const side = Math.round(canvas.clientWidth * devicePixelRatio);
    if (canvas.width !== side) canvas.width = canvas.height = side;
    const context = canvas.getContext("2d");
    const style = getComputedStyle(canvas);
    context.clearRect(0, 0, side, side);
    if (picture.photo) contain(context, picture.photo, side);
    if (picture.sample) engrave(context, picture.sample, side, style.color);
    ink(context, picture.strokes, side, style.color);
    if (this.#pen.isShown) cross(context, this.#pen, side, style.getPropertyValue("--accent"));
  }
}

/** Strokes as dark ink on a white sheet: what is sent, whatever the colours of the page. */
export function inked(strokes) {
  const [canvas, context] = sheet(SENT_SIDE, SENT_SIDE);
  ink(context, strokes, SENT_SIDE, "#000");
  return canvas;
}

/** Smooth lines: each point bends the line towards itself, from middle to middle. */
function ink(context, strokes, side, colour) {
  context.strokeStyle = colour;
  context.lineWidth = STROKE * side;
  context.lineCap = context.lineJoin = "round";
  for (const stroke of strokes) {
    const points = stroke.map(([x, y]) => [x * side, y * side]);
    context.beginPath();
    context.moveTo(...points[0]);
    for (let i = 1; i < points.length - 1; i++) {
      const [[x, y], [nextX, nextY]] = [points[i], points[i + 1]];
      context.quadraticCurveTo(x, y, (x + nextX) / 2, (y + nextY) / 2);
    }
    context.lineTo(...points.at(-1));
    context.stroke();
  }
}

function contain(context, photo, side) {
  const scale = side / Math.max(photo.width, photo.height);
  const [width, height] = [photo.width * scale, photo.height * scale].map(Math.round);
  const box = [Math.round((side - width) / 2), Math.round((side - height) / 2), width, height];
  context.fillStyle = GREY; // behind a see-through photo
  context.fillRect(...box);
  context.drawImage(photo, ...box);
}

/** A test image, pixel by pixel, in the ink of the paper. */
function engrave(context, { bytes, height, width }, side, colour) {
  const cell = (side * (1 - 2 * MARGIN)) / Math.max(height, width);
  const edge = (index) => Math.round(side * MARGIN + index * cell); // whole pixels: no seams
  context.fillStyle = colour;
  bytes.forEach((value, i) => {
    context.globalAlpha = value / 255;
    const [left, top] = [i % width, Math.floor(i / width)].map(edge);
    const [right, bottom] = [(i % width) + 1, Math.floor(i / width) + 1].map(edge);
    context.fillRect(left, top, right - left, bottom - top);
  });
  context.globalAlpha = 1;
}

function cross(context, { x, y, isDown }, side, colour) {
  context.strokeStyle = context.fillStyle = colour;
  context.lineWidth = 2 * devicePixelRatio;
  context.beginPath();
  context.arc(x * side, y * side, (STROKE * side) / 2, 0, 2 * Math.PI);
  if (isDown) context.fill();
  context.stroke();
}
