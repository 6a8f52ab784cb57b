// Asks for the newest thing that is wanted: one request at a time, what came in between is left out, and what is
// refused for the moment is asked for again.

const FIRST_WAIT_MS = 250;
const LONGEST_WAIT_MS = 4000;

export class Asker {
  #wanted = null;
  #isBusy = false;
  #wake = () => {};

  /** `ask` is given a thing and promises an answer; `heard(answer, thing)` and `failed(error, thing)` are told. */
  constructor({ ask, heard, failed, gapMs = 0 }) {
    Object.assign(this, { ask, heard, failed, gapMs });
  }

  want(thing) {
    this.#wanted = thing;
    if (!this.#isBusy) this.#work();
  }

  /** Nothing is wanted any more. An answer on its way still comes. */
  forget() {
    this.#wanted = null;
  }

  /** Do not wait any longer: there is reason to think that the service answers. */
  hurry() {
    this.#wake();
  }

  async #work() {
    this.#isBusy = true;
    try {
      for (let failures = 0; this.#wanted !== null; ) {
        const thing = this.#wanted;
        this.#wanted = null;
        const [answer, error] = await this.ask(thing).then((answer) => [answer, null], (error) => [null, error]);
        failures = error ? failures + 1 : 0;
        if (!error) await this.heard(answer, thing);
        else this.failed(error, thing);
        if (error?.passes) this.#wanted ??= thing;
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
