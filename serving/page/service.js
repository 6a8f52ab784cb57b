// Asks the service over HTTP and JSON. What it does not answer is a Refusal that says why.

export const OFFLINE = -1; // nobody answers; beside these, numbers of google.rpc.Code
export const INVALID_ARGUMENT = 3;
export const DEADLINE_EXCEEDED = 4;
export const NOT_FOUND = 5;
export const RESOURCE_EXHAUSTED = 8;
export const UNIMPLEMENTED = 12;
export const UNAVAILABLE = 14;

const TIMEOUT_MS = 15000;

export class Refusal extends Error {
  constructor(message, code, { reason = "", retryMs = null } = {}) {
    super(message);
    this.code = code;
    this.reason = reason;
    this.retryMs = retryMs;
  }

  /** Whether the same call can have an answer later. */
  get passes() {
    return [OFFLINE, DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED, UNAVAILABLE].includes(this.code);
  }
}

export const getModel = () => ask("v1/model");
export const classifyPhoto = (photo) => ask("v1/classify", { photos: [photo] });
export const classifyPixels = (pixels) => ask("v1/classify", { image_count: 1, pixels });
export const getFeatureMaps = (pixels) => ask("v1/feature-maps", { pixels });

async function ask(path, body) {
  const options = { cache: "no-store", signal: AbortSignal.timeout(TIMEOUT_MS) };
  if (body) {
    Object.assign(options, { method: "POST", body: JSON.stringify(body), headers: { "content-type": "application/json" } });
  }
  let response;
  let text;
  try {
    response = await fetch(path, options);
    text = await response.text();
  } catch (error) {
    throw new Refusal(`nobody answers: ${error.message}`, OFFLINE);
  }
  const answer = parsed(text);
  if (response.ok && answer) return answer;
  throw refusal(response.status, answer);
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null; // a proxy's own page
  }
}

/** The google.rpc.Status that an answer is, as an error. */
function refusal(httpStatus, status) {
  if (httpStatus === 413) return new Refusal("it is too large for this service", INVALID_ARGUMENT);
  if (typeof status?.code !== "number") {
    const code = { 404: NOT_FOUND, 429: RESOURCE_EXHAUSTED }[httpStatus] ?? (httpStatus >= 502 ? OFFLINE : 2);
    return new Refusal(`the service answered with HTTP status ${httpStatus}`, code);
  }
  const detail = (name) => (status.details ?? []).find((one) => one["@type"]?.endsWith(`google.rpc.${name}`)) ?? {};
  const delay = detail("RetryInfo").retry_delay ?? detail("RetryInfo").retryDelay;
  return new Refusal(status.message, status.code, {
    reason: detail("ErrorInfo").reason,
    retryMs: delay ? 1000 * parseFloat(delay) : null,
  });
}
