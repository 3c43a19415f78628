// Asking the console's API: one way, with errors that say what can be done about them.

export class Outage extends Error {} // no answer, or not now: the same request may be sent again later
export class SignIn extends Error {} // nobody is signed in any more
export class Refused extends Error {
  // Asking again will not help.
  constructor(status, text) {
    super(text);
    this.status = status;
  }
}

export async function call(method, path, body, options = {}) {
  let answer;
  try {
    answer = await fetch(path, {
      method,
      headers: body === undefined ? {} : { "content-type": "application/json" },
      body: body === undefined ? undefined : JSON.stringify(body),
      credentials: "same-origin",
      ...options,
    });
  } catch {
    throw new Outage("the console cannot be reached");
  }
  if (answer.ok) return answer;
  if (answer.status === 401) throw new SignIn("sign in again: what you decided is kept here");
  const text = await answer
    .clone()
    .json()
    .then((found) => found.error, () => `the console answered ${answer.status}`);
  if (answer.status >= 500 || answer.status === 429 || answer.status === 408) throw new Outage(text);
  throw new Refused(answer.status, text);
}

export const get = async (path) => (await call("GET", path)).json();
export const post = async (path, body, options) => (await call("POST", path, body, options)).json();

export function newKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(15)); // randomUUID is only there on secure origins
  return btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_");
}

export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children);
  return made;
}
