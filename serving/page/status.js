// The one line that says what is not as it should be; the most important thing first.

const SOURCES = ["fault", "service", "answer", "photo", "notice"];
const texts = new Map();
const line = document.getElementById("status");

/** Say something, or with an empty text that it is over. A notice goes by itself. */
export function say(source, text = "", forMs = 0) {
  if (text) texts.set(source, text);
  else texts.delete(source);
  const first = SOURCES.find((one) => texts.has(one));
  const shown = texts.get(first) ?? "";
  if (line.textContent !== shown) line.textContent = shown;
  line.classList.toggle("bad", first !== undefined && first !== "notice");
  if (text && forMs) setTimeout(() => texts.get(source) === text && say(source), forMs);
}

/** What this page itself does wrong is never silent. */
const tell = (error) => say("fault", `This page has a fault: ${error?.message ?? error}. Reloading it may help.`);
addEventListener("error", (event) => tell(event.error ?? event.message));
addEventListener("unhandledrejection", (event) => tell(event.reason));
