// The review page: the next case is there before it is asked for, a key decides it, and nothing waits for the network.

import { Outage, SignIn, Refused, element, get, post } from "./api.js";
import { Feed } from "./feed.js";
import { LikeThis } from "./like.js";
import { Outbox, json } from "./outbox.js";
import { Pad } from "./pad.js";

const root = document.querySelector("#review");
const stage = document.querySelector("#stage");
const bar = document.querySelector("#bar");
const filters = JSON.parse(root.dataset.filters);
const may = root.dataset.may === "yes";
const PAST = 12; // decided cases whose sheet is kept for an undo
const PACE_MS = 20_000;

const outbox = new Outbox(root.dataset.actor);
const feed = new Feed({ actor: root.dataset.actor, filters, stage, leaseS: Number(root.dataset.lease), taken: () => outbox.cases() });
let current = null;
let pad = null;
let pressedAt = 0;
const past = [];
const comments = new Map();
const session = { decided: 0 };

// ---- what is on the stage ----

function show(item) {
  if (current) current.node.hidden = true;
  current = item;
  bar.hidden = !item;
  quiet("");
  if (!item) {
    pad = null;
    return;
  }
  item.node.hidden = false;
  pad = new Pad(item.node, decide);
  document.title = `${item.node.dataset.predicted || "Case"} · Review · Hardcase`;
  history.replaceState(null, "", address(item.id));
  if (document.activeElement === document.body || stage.contains(document.activeElement)) stage.focus({ preventScroll: true });
  measure(item.id);
}

// From the key's press to the frame in which the next case is painted.
function measure(id) {
  if (!pressedAt) return;
  const start = pressedAt;
  pressedAt = 0;
  requestAnimationFrame(() => {
    const channel = new MessageChannel(); // its task runs after this frame is painted
    channel.port1.onmessage = () => performance.measure("review:next", { start, end: performance.now(), detail: id });
    channel.port2.postMessage(0);
  });
}

function address(id) {
  const query = new URLSearchParams({ ...filters, case: id });
  return `/review?${query}`;
}

function quiet(text, ...more) {
  const line = document.querySelector("#quiet");
  line.hidden = !text && !more.length;
  line.replaceChildren(text, ...more);
}

function advance() {
  const next = feed.next();
  show(next);
  if (!next) idle();
  feed.fill();
}

function idle() {
  if (feed.problem) quiet(feed.problem);
  else if (!feed.exhausted) quiet("Fetching the next case …");
  else if (Object.keys(filters).length) quiet("Nothing waits here. ", element("a", { href: "/review" }, "Review everything that waits"));
  else quiet("Nothing waits: every case has been looked at. ", element("a", { href: "/cases" }, "All cases"));
}

// ---- deciding ----

function decide(said) {
  if (!current || !may) return;
  const item = current;
  const comment = comments.get(item.id);
  comments.delete(item.id);
  outbox.push({ kind: "decide", case: item.id, edition: item.edition, ...said, comment });
  session.decided += 1;
  trail(said.text, item.id);
  leave(item);
  advance();
}

function leave(item) {
  feed.finished(item.id);
  past.push(item);
  if (past.length > PAST) past.shift().node.remove();
}

function skip() {
  if (!current) return;
  const item = current;
  feed.skipped(item.id);
  trail("skipped", item.id);
  past.push(item);
  if (past.length > PAST) past.shift().node.remove();
  advance();
}

async function undo() {
  const act = outbox.newest() ?? (await newestElsewhere());
  if (!act) {
    notice("There is nothing to undo.");
    return;
  }
  if (act.elsewhere) outbox.push({ kind: "undo", act: act.act, case: act.case, text: act.text });
  const unsent = !act.elsewhere && outbox.undo(act);
  trail(`undone: ${act.text}`, act.case);
  session.decided = Math.max(session.decided - 1, 0);
  if (act.kind !== "decide" || !act.case) {
    feed.forget(current?.id, true);
    return;
  }
  const kept = past.findIndex((item) => item.id === act.case);
  const item = kept >= 0 ? past.splice(kept, 1)[0] : await feed.load(act.case, null).catch(() => null);
  if (!item) return;
  if (!unsent) item.edition = null; // is looked up when it is decided again
  feed.back(item.id);
  if (current) feed.putBack(current);
  show(item);
}

async function newestElsewhere() {
  try {
    const query = new URLSearchParams({ actor: root.dataset.actor, limit: "20" });
    const { acts } = await get(`/api/review/acts?${query}`);
    const found = acts.find((a) => ["decide", "bulk"].includes(a.kind) && !a.undone_by && a.cases > 0);
    return found && { act: found.id, kind: found.kind, elsewhere: true, text: found.kind, case: found.case ?? null };
  } catch {
    return null;
  }
}

// ---- what came of it ----

function notice(text, ...more) {
  const box = document.querySelector("#notices");
  const close = element("button", { type: "button", class: "quiet", "aria-label": "Close this notice" }, "×");
  const made = element("div", { class: "notice" }, element("p", {}, text), ...more, close);
  close.onclick = () => made.remove();
  box.append(made);
  if (!more.length) setTimeout(() => made.remove(), 8000);
  return made;
}

const shownConflicts = new Set();

function conflict(entry) {
  if (shownConflicts.has(entry.key)) return;
  shownConflicts.add(entry.key);
  const theirs = element("button", { type: "button", "data-key": "[" }, element("kbd", {}, "["), " keep theirs");
  const mine = element("button", { type: "button", "data-key": "]" }, element("kbd", {}, "]"), " send mine as a second opinion");
  const link = element("a", { href: `/cases/${entry.case}` }, "the case");
  const made = notice(`Conflict: ${entry.conflict}. You said: ${entry.text}.`, link, theirs, mine);
  made.classList.add("conflict");
  theirs.onclick = () => {
    outbox.resolve(entry, null);
    made.remove();
  };
  mine.onclick = () => {
    const { verdict, label, comment, text } = entry;
    outbox.resolve(entry, { kind: "decide", case: entry.case, edition: null, second: true, verdict, label, comment, text });
    made.remove();
  };
}

function trail(text, id) {
  const list = document.querySelector("#trail");
  list.prepend(element("li", {}, element("a", { href: `/cases/${id ?? ""}` }, text)));
  while (list.children.length > 6) list.lastChild.remove();
}

function drawOutbox() {
  const line = document.querySelector("#outbox");
  const others = [...outbox.othersWaiting];
  const parts = [];
  if (outbox.waiting && outbox.problem) parts.push(`${outbox.waiting} waiting to be sent: ${outbox.problem}`);
  else if (outbox.waiting > 3) parts.push(`${outbox.waiting} waiting to be sent`);
  if (outbox.conflicts.length) parts.push(`${outbox.conflicts.length} in conflict`);
  if (others.length) parts.push(`decisions of ${others.join(", ")} wait until they sign in here`);
  if (!outbox.kept) parts.push("this browser keeps nothing: do not close the page while something waits");
  line.textContent = parts.join("; ");
  root.dataset.waiting = outbox.waiting;
}

outbox.addEventListener("change", drawOutbox);
outbox.addEventListener("conflict", (event) => conflict(event.detail));
outbox.addEventListener("refused", (event) => notice(`Not taken: ${event.detail.text} (you said: ${event.detail.entry.text})`));
outbox.addEventListener("done", ({ detail: { entry, answer } }) => {
  if (entry.kind === "bulk") {
    const left = Object.entries(answer.skipped ?? {}).map(([why, n]) => `${n} ${why}`);
    notice(`${answer.changed} cases: ${entry.text}. z takes it back.${left.length ? ` Left: ${left.join(", ")}.` : ""}`);
    const cases = entry.body.selection.cases;
    if (cases && answer.changed === cases.length) {
      feed.decided(cases);
      if (current && cases.includes(current.id)) {
        leave(current);
        advance();
      }
    } else {
      feed.forget(current?.id);
      recheck();
    }
  }
  if (entry.kind === "undo" && answer.changed !== 1) notice(answer.changed ? `${answer.changed} cases are as they were.` : "Nothing could be taken back: somebody has changed it since.");
});

// After a bulk decision: is the case on the stage still to be decided?
async function recheck() {
  const item = current;
  if (!item) return;
  const { standing } = await get(`/review/sheets/${item.id}?format=json`);
  if (item !== current) return;
  item.edition = standing.edition;
  if (["labelled", "dismissed"].includes(standing.state)) {
    leave(item);
    advance();
  }
}

async function pace() {
  try {
    const query = new URLSearchParams({ actor: root.dataset.actor, ...(filters.model ? { model: filters.model } : {}) });
    const found = await get(`/api/review/pace?${query}`);
    const parts = [`${found.decided.toLocaleString("en")} today`];
    if (found.per_minute) parts.push(`${found.per_minute.toFixed(found.per_minute < 10 ? 1 : 0)} a minute`);
    parts.push(`${found.waiting.toLocaleString("en")} waiting`);
    document.querySelector("#progress").textContent = parts.join(" · ");
  } catch (error) {
    if (!(error instanceof Outage || error instanceof SignIn || error instanceof Refused)) throw error;
  }
}

// ---- keys ----

const actions = { skip, undo, comment, like: () => current && like.open(current) };

function comment() {
  if (!current) return;
  const dialog = document.querySelector("#comment");
  const text = dialog.querySelector("#comment-text");
  const id = current.id;
  text.value = comments.get(id) ?? "";
  dialog.returnValue = "";
  dialog.onclose = () => {
    if (dialog.returnValue === "keep" && text.value.trim()) comments.set(id, text.value.trim());
    else if (dialog.returnValue === "drop") comments.delete(id);
  };
  text.onkeydown = (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) dialog.close("keep");
  };
  dialog.showModal();
}

const like = new LikeThis((entry) => {
  outbox.push(entry);
  trail(`all like this: ${entry.text}`, current?.id);
});

function press(button) {
  if (button.dataset.act) actions[button.dataset.act]();
  else if (button.dataset.key === "?") document.querySelector("#help").showModal();
  else if (!pad?.press(button)) button.dataset.verdict && decide({ verdict: button.dataset.verdict, text: button.dataset.verdict });
}

function wanted(key) {
  const name = CSS.escape(key);
  const conflicts = document.querySelector(`#notices [data-key="${name}"]`);
  if (conflicts) return conflicts;
  const always = document.querySelector(`#bar [data-act="undo"][data-key="${name}"], .review-head [data-key="${name}"]`);
  return current ? (current.node.querySelector(`[data-key="${name}"]`) ?? document.querySelector(`#bar [data-key="${name}"]`) ?? always) : always;
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || document.querySelector("dialog[open]")) return;
  const field = event.target.closest("input, textarea, select");
  if (field) {
    if (event.key === "Enter" && field.matches("[data-number]")) {
      event.preventDefault();
      pressedAt = event.timeStamp;
      pad.submit();
    } else if (event.key === "Escape") field.blur();
    return;
  }
  if (event.key === "Enter") {
    if (event.target.closest("a, summary") || (event.target.closest("button") && pad?.mode !== "toggle")) return;
    pressedAt = event.timeStamp;
    if (pad?.submit()) event.preventDefault();
    return;
  }
  if (event.key === "o" && current) {
    event.preventDefault();
    current.node.querySelector("[data-open]").click();
    return;
  }
  if (pad?.mode === "number" && /^[0-9.+-]$/.test(event.key)) {
    pad.number.focus(); // the key's own character goes into the field
    return;
  }
  const button = wanted(event.key.toLowerCase());
  if (!button) return;
  event.preventDefault();
  pressedAt = event.timeStamp;
  if (button.closest(".notice")) button.click();
  else press(button);
  if (button.dataset.act && button.dataset.act !== "skip") pressedAt = 0; // decides nothing: no case follows it
});

root.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-key]");
  if (button && !button.closest(".notice")) press(button);
});

// ---- life of the page ----

addEventListener("pagehide", () => {
  outbox.farewell();
  const held = [...feed.held(), ...(current ? [current.id] : [])].filter((id) => !outbox.cases().has(id));
  if (may && held.length) navigator.sendBeacon("/api/review/release", json({ cases: held }));
});
addEventListener("pageshow", (event) => {
  if (event.persisted) feed.fill(true);
});
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) feed.fill(true);
});

feed.addEventListener("ready", () => {
  if (!current) advance();
});
feed.addEventListener("change", () => {
  if (!current) idle();
});
feed.holding = () => (current ? [current.id] : []);

async function begin() {
  drawOutbox();
  for (const entry of outbox.conflicts) conflict(entry);
  for (const id of outbox.cases()) feed.finished(id); // decided before this page was opened, and perhaps sent while it asks for cases
  outbox.pump();
  const first = root.dataset.first;
  if (first && !outbox.cases().has(first)) {
    const item = await feed.load(first, null).catch(() => null);
    if (item) show(item);
  }
  if (may) await feed.fill();
  pace();
  setInterval(pace, PACE_MS);
}

begin();
