// Asks for the newest thing that is wanted: one request at a time, what came in between is left out, and what is
// refused for the moment is asked for again.

import { Refusal } from "./service.js";

const FIRST_WAIT_MS = 250;
const LONGEST_WAIT_MS = 4000;

export class Asker {
  #wanted = null;
  #forgotten = 0; // how often everything was
  #isBusy = false;
  #wake = () => {};

  /** `ask` is given a thing and promises an answer; `heard(answer, thing)` and `failed(refusal, thing)` are told. */
  constructor({ ask, heard, failed, gapMs = 0 }) {
    Object.assign(this, { ask, heard, failed, gapMs });
  }

  want(thing) {
    this.#wanted = thing;
    if (!this.#isBusy) this.#work();
  }

  /** Nothing is wanted any more, and nobody is told of what is on its way. */
  forget() {
    this.#wanted = null;
    this.#forgotten++;
  }

  /** Do not wait any longer: there is reason to think that the service answers. */
  hurry() {
    this.#wake();
  }

  async #work() {
    this.#isBusy = true;
    try {
      for (let failures = 0; this.#wanted !== null; ) {
        const [thing, forgotten] = [this.#wanted, this.#forgotten];
        this.#wanted = null;
        const [answer, error] = await this.ask(thing).then((answer) => [answer, null], (error) => [null, error]);
        if (error && !(error instanceof Refusal)) throw error; // a fault of this page
        failures = error ? failures + 1 : 0;
        if (forgotten === this.#forgotten) {
          if (error?.passes) this.#wanted ??= thing;
          if (error) this.failed(error, thing);
          else await this.heard(answer, thing);
        }
        await this.#wait(error?.passes ? patience(error, failures) : this.gapMs);
      }
    } finally {
      this.#isBusy = false;
    }
  }

  async #wait(ms) {
    await new Promise((done) => {
      this.#wake = done;
      setTimeout(done, ms);
    });
  }
}

/** What the service asks for, or longer each time; never all pages at once. */
function patience(error, failures) {
  const waitMs = Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** (failures - 1));
  return Math.max(error.retryMs ?? 0, waitMs) * (1 + 0.3 * Math.random());
}
