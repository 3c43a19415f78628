// The page of a case: the same keys as on the review page, next and previous in the list it came from, tags, comments.

import { call, element, newKey, post } from "./api.js";
import { around } from "./listing.js";
import { Outbox } from "./outbox.js";
import { Pad } from "./pad.js";
import "./zoom.js";

const root = document.querySelector(".case");
const id = root.dataset.case;
const may = root.dataset.may === "yes";
const status = document.querySelector("#case-status");
const outbox = new Outbox(root.dataset.actor);
const pad = new Pad(root, decide);
const REFRESHED = ["#standing", "#history-list", "#feedback-list", "#case-tags", "#case-verdict"];

function say(text, ...more) {
  status.replaceChildren(text, ...more);
}

function decide(said) {
  if (!may) return;
  const comment = document.querySelector("#comment-field")?.value.trim() || undefined;
  outbox.push({ kind: "decide", case: id, edition: Number(root.dataset.edition) || null, ...said, comment });
  say(`${said.text}: being sent`);
}

function undo() {
  const act = outbox.newest();
  if (!act) return say("There is nothing to undo.");
  if (act.case !== id) return say(`Your last act was about another case: ${act.text}. `, element("a", { href: `/cases/${act.case ?? ""}` }, "Open it"));
  say(outbox.undo(act) ? "Taken back." : `${act.text}: being taken back`);
}

async function refresh() {
  const fresh = new DOMParser().parseFromString(await (await call("GET", location.pathname)).text(), "text/html");
  for (const name of REFRESHED) {
    const [old, made] = [document.querySelector(name), fresh.querySelector(name)];
    if (old && made) old.replaceWith(document.importNode(made, true));
  }
  root.dataset.edition = fresh.querySelector(".case").dataset.edition;
}

outbox.addEventListener("done", ({ detail: { entry } }) => {
  if (entry.case !== id) return;
  say(entry.kind === "undo" ? "Taken back." : `${entry.text}: taken down. z takes it back.`);
  refresh();
});
outbox.addEventListener("refused", ({ detail: { text } }) => say(`Not taken: ${text}`));
outbox.addEventListener("conflict", ({ detail: entry }) => {
  if (entry.case !== id) return;
  const theirs = element("button", { type: "button" }, "Keep theirs");
  const mine = element("button", { type: "button" }, "Send mine as a second opinion");
  theirs.onclick = () => (outbox.resolve(entry, null), say("Theirs stands."));
  mine.onclick = () => {
    const { verdict, label, comment, text } = entry;
    outbox.resolve(entry, { kind: "decide", case: id, edition: null, second: true, verdict, label, comment, text });
  };
  say(`Conflict: ${entry.conflict}. You said: ${entry.text}. `, theirs, mine);
  refresh();
});
outbox.addEventListener("change", () => {
  if (outbox.waiting && outbox.problem) say(`${outbox.waiting} waiting to be sent: ${outbox.problem}`);
});
outbox.pump();
addEventListener("pagehide", () => outbox.farewell());

// ---- next and previous ----

let place = null;
around(id).then((found) => {
  place = found;
  if (!found) return;
  const nav = document.querySelector("#listing");
  const link = (to, text, rel) => (to ? element("a", { href: `/cases/${to}`, rel, class: "button" }, text) : element("span", { class: "note" }, text));
  nav.hidden = false;
  nav.replaceChildren(
    link(found.previous, "← previous", "prev"),
    element("a", { href: found.back }, `${found.place} of ${found.of}${found.more ? "+" : ""} in ${found.title}`),
    link(found.next, "next →", "next"),
  );
});

// ---- keys ----

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || document.querySelector("dialog[open]")) return;
  const field = event.target.closest("input, textarea, select");
  if (field) {
    if (event.key === "Enter" && field.matches("[data-number]")) {
      event.preventDefault();
      pad.submit();
    } else if (event.key === "Escape") field.blur();
    return;
  }
  const to = { ArrowLeft: place?.previous, ArrowRight: place?.next }[event.key];
  if (to && !event.target.closest("[tabindex], [data-chart] svg")) {
    location.assign(`/cases/${to}`);
    return;
  }
  if (event.key === "?") return document.querySelector("#help").showModal();
  if (!may) return;
  if (event.key === "z") return undo();
  if (event.key === "e") {
    event.preventDefault();
    return document.querySelector("#comment-field").focus();
  }
  if (event.key === "Enter") {
    if (!event.target.closest("a, summary, button") && pad.submit()) event.preventDefault();
    return;
  }
  if (pad.mode === "number" && /^[0-9.+-]$/.test(event.key)) return pad.number.focus();
  const button = root.querySelector(`.deciding [data-key="${CSS.escape(event.key.toLowerCase())}"]`);
  if (!button) return;
  event.preventDefault();
  pad.press(button);
});

root.addEventListener("click", (event) => {
  const button = event.target.closest(".deciding button[data-key]");
  if (button && may) pad.press(button);
  const tag = event.target.closest("[data-untag]");
  if (tag) mark("/api/review/tags", { remove: [tag.dataset.untag] });
});

// ---- tags and comments ----

async function mark(path, body) {
  try {
    await post(path, { key: newKey(), selection: { cases: [id] }, ...body });
    await refresh();
  } catch (error) {
    say(error.message);
  }
}

document.querySelector("#tag-form")?.addEventListener("submit", (event) => {
  event.preventDefault();
  const field = event.target.elements.tag;
  if (field.value.trim()) mark("/api/review/tags", { add: [field.value.trim()] });
  field.value = "";
});
document.querySelector("#comment-form")?.addEventListener("submit", (event) => {
  event.preventDefault();
  const field = event.target.elements.comment;
  if (field.value.trim()) mark("/api/review/comments", { comment: field.value.trim() });
  field.value = "";
});
