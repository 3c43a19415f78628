// The case list with keys: selection, acts over many cases, and pages that follow one another.
import { get, newKey, post, call } from "./api.js";

const main = document.querySelector(".list-main");
const cards = document.querySelector("#cards");
const may = Boolean(main?.dataset.review);
const picked = new Set();
let everything = false; // all that fit, not only those that are shown
let last = null; // the case that was selected last

// ---- which filters hold, as the API takes them
function filter() {
  const asked = Object.fromEntries(new URLSearchParams(main.dataset.asked));
  delete asked.order;
  delete asked.density;
  for (const name of ["min_score", "max_score"]) if (asked[name]) asked[name] = Number(asked[name]);
  for (const name of ["correct", "grouped"]) if (asked[name]) asked[name] = asked[name].toLowerCase() === "true";
  return asked;
}
const selection = () => (everything ? { filter: filter() } : { cases: [...picked] });
const all = () => [...cards.querySelectorAll("li.card")];
const current = () => document.activeElement?.closest?.("li.card") ?? null;

// ---- selection
const bar = document.querySelector("#bulk");
function show() {
  if (!bar) return;
  const count = everything ? Number(main.dataset.total) : picked.size;
  bar.hidden = count === 0;
  cards.classList.toggle("picking", count > 0);
  document.querySelector("#picked").textContent = `${count.toLocaleString("en")} selected`;
  document.querySelector("#pick-all").hidden = everything || picked.size < all().length;
  for (const card of all()) {
    const on = everything || picked.has(card.dataset.case);
    card.classList.toggle("picked", on);
    card.querySelector(".pick").setAttribute("aria-checked", String(Boolean(on)));
  }
}
function pick(card, on) {
  if (everything) {
    everything = false;
    for (const other of all()) picked.add(other.dataset.case);
  }
  if (on) picked.add(card.dataset.case);
  else picked.delete(card.dataset.case);
  last = card;
}
function toggle(card, range) {
  const on = !picked.has(card.dataset.case) && !everything;
  if (range && last) {
    const list = all();
    const [from, to] = [list.indexOf(last), list.indexOf(card)].sort((a, b) => a - b);
    for (const other of list.slice(Math.max(from, 0), to + 1)) pick(other, true);
    last = card;
  } else pick(card, on);
  show();
}
function clear() {
  picked.clear();
  everything = false;
  show();
}
cards?.addEventListener("click", (event) => {
  const box = event.target.closest(".pick");
  if (!box) return;
  toggle(box.closest("li.card"), event.shiftKey);
});

// ---- acts over the selection, each with its undo
const toast = document.querySelector("#toast");
let hiding = 0;
function say(text, undo) {
  toast.querySelector("span").textContent = text;
  const button = toast.querySelector("button");
  button.hidden = !undo;
  button.onclick = undo ?? null;
  toast.hidden = false;
  clearTimeout(hiding);
  hiding = setTimeout(() => (toast.hidden = true), 12000);
}
async function act(path, body, done) {
  try {
    const made = await post(path, { key: newKey(), selection: selection(), ...body });
    const left = Object.values(made.skipped).reduce((a, b) => a + b, 0);
    clear();
    await reload();
    say(`${made.changed.toLocaleString("en")} ${done}${left ? `, ${left} left as they were` : ""}`, async () => {
      try {
        const undone = await post(`/api/review/acts/${made.act}/undo`, { key: newKey() });
        await reload();
        say(`Taken back: ${undone.changed.toLocaleString("en")} cases`);
      } catch (error) {
        say(error.message);
      }
    });
  } catch (error) {
    say(error.message);
  }
}
function on(id, handler) {
  document.querySelector(`#${id}`)?.addEventListener(id.endsWith("-form") ? "submit" : "click", (event) => {
    event.preventDefault();
    handler(event.target);
  });
}
on("tag-form", (form) => {
  const tag = form.elements.tag.value.trim();
  const body = tag.startsWith("-") ? { remove: [tag.slice(1)] } : { add: [tag] };
  act("/api/review/tags", body, tag.startsWith("-") ? `untagged ${tag.slice(1)}` : `tagged ${tag}`);
  form.reset();
});
on("assign-form", (form) => {
  const name = form.elements.assignee.value.trim();
  act("/api/review/assign", { assignee: name || null }, name ? `assigned to ${name}` : "for anybody");
});
on("priority-form", (form) => {
  const priority = Number(form.elements.priority.value);
  act("/api/review/priority", { priority }, `have priority ${priority}`);
});
on("dismiss", async () => {
  try {
    const seen = await post("/api/review/bulk/preview", { selection: selection(), verdict: "dismiss" });
    if (seen.count > 20 && !confirm(`Dismiss ${seen.count.toLocaleString("en")} cases?`)) return;
    await act("/api/review/bulk", { verdict: "dismiss", expect: seen.count }, "dismissed");
  } catch (error) {
    say(error.message);
  }
});
on("review-picked", async () => {
  try {
    let cases = [...picked];
    if (everything) cases = (await get(`/api/cases/ids?${new URLSearchParams({ ...filter(), limit: 3000 })}`)).ids;
    const name = `Selection of ${cases.length} cases, ${new Date().toISOString().slice(0, 16).replace("T", " ")}`;
    const batch = await post("/api/batches", { name, cases, key: newKey() });
    location.href = `/review?batch=${batch.id}&back=${encodeURIComponent(location.pathname + location.search)}`;
  } catch (error) {
    say(error.message);
  }
});
on("pick-none", clear);
on("pick-all", () => {
  everything = true;
  show();
});

// ---- pages that follow one another; what is shown is kept for the way back
const KEY = "hardcase.cases";
let pages = 1;
let busy = false;
async function fetched(href) {
  const text = await (await call("GET", href)).text();
  return new DOMParser().parseFromString(text, "text/html");
}
function takeNav(found) {
  document.querySelector(".paging").replaceWith(document.importNode(found.querySelector(".paging"), true));
  watch();
}
async function more() {
  const link = document.querySelector('.paging a[rel="next"]');
  if (!link || busy) return false;
  busy = true;
  link.setAttribute("aria-busy", "true");
  try {
    const found = await fetched(link.getAttribute("href"));
    const known = new Set(all().map((card) => card.dataset.case));
    const fresh = [...found.querySelectorAll("#cards > li")].filter((card) => !known.has(card.dataset.case));
    cards.append(...fresh.map((card) => document.importNode(card, true)));
    pages += 1;
    takeNav(found);
    show();
    return true;
  } catch (error) {
    link.removeAttribute("aria-busy");
    say(error.message);
    return false;
  } finally {
    busy = false;
  }
}
async function reload() {
  const found = await fetched(location.href);
  const fresh = found.querySelector(".list-main");
  document.querySelector("#total").textContent = found.querySelector("#total").textContent;
  const shown = new Map([...fresh.querySelectorAll("#cards > li")].map((card) => [card.dataset.case, card]));
  for (const card of all()) {
    const other = shown.get(card.dataset.case);
    if (other) card.replaceWith(document.importNode(other, true));
    else if (all().indexOf(card) < shown.size) card.remove(); // it fits no more
  }
  main.dataset.total = fresh.dataset.total;
  const facets = found.querySelector(".facets");
  if (facets) document.querySelector(".facets")?.replaceChildren(...document.importNode(facets, true).childNodes);
  show();
}
const seen = new IntersectionObserver((entries) => entries.some((e) => e.isIntersecting) && more(), {
  rootMargin: "900px",
});
function watch() {
  seen.disconnect();
  const link = document.querySelector('.paging a[rel="next"]');
  if (link) seen.observe(link);
}
addEventListener("pagehide", () => {
  try {
    const state = { at: location.href, pages, top: scrollY, on: current()?.dataset.case ?? null, picked: [...picked] };
    sessionStorage.setItem(KEY, JSON.stringify(state));
  } catch {
    /* without storage the list starts at its top */
  }
});
async function restore() {
  let state = null;
  try {
    state = JSON.parse(sessionStorage.getItem(KEY));
  } catch {
    /* nothing kept */
  }
  const how = performance.getEntriesByType("navigation")[0]?.type;
  if (cards && state?.at === location.href && (how === "back_forward" || how === "reload")) {
    history.scrollRestoration = "manual";
    while (pages < Math.min(state.pages, 20) && (await more()));
    const there = new Set(all().map((card) => card.dataset.case));
    for (const id of state.picked) if (there.has(id)) picked.add(id);
    show();
    scrollTo(0, state.top);
    if (state.on) cards.querySelector(`[data-case="${state.on}"] a`)?.focus({ preventScroll: true });
  }
  if (cards) watch();
}

// ---- keys
function move(step) {
  const list = all();
  const at = list.indexOf(current());
  const next = list[at < 0 ? 0 : at + step];
  if (next) {
    next.querySelector("a").focus({ preventScroll: true });
    next.scrollIntoView({ block: "nearest" });
  } else if (step > 0) more().then((came) => came && move(step));
}
const help = document.querySelector("#help");
const KEYS = {
  j: () => move(1),
  k: () => move(-1),
  x: (event) => may && current() && toggle(current(), event.shiftKey),
  o: () => current()?.querySelector("a").click(),
  a: () => {
    if (!may) return;
    for (const card of all()) picked.add(card.dataset.case);
    show();
  },
  t: () => bar && !bar.hidden && document.querySelector("#tag-form input").focus(),
  "/": () => document.querySelector("#q").focus(),
  "?": () => help.showModal(),
  escape: clear,
};
document.addEventListener("keydown", (event) => {
  const typing = event.target.closest("input, select, textarea, dialog");
  if (typing) {
    if (event.key === "Escape" && !help.open) event.target.blur();
    return;
  }
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const run = KEYS[event.key.toLowerCase()];
  if (!run || (!cards && !["/", "?"].includes(event.key))) return;
  event.preventDefault();
  run(event);
});
on("help-open", () => help.showModal());

// ---- saved views
document.querySelector("#keep-view")?.addEventListener("submit", async (event) => {
  event.preventDefault();
  const form = event.target.elements;
  try {
    const shared = Boolean(form.shared?.checked);
    await post("/api/views", { name: form.name.value.trim(), query: main.dataset.asked, shared });
    location.reload();
  } catch (error) {
    say(error.message);
  }
});
for (const button of document.querySelectorAll("[data-forget]")) {
  button.addEventListener("click", async () => {
    try {
      await call("DELETE", `/api/views/${button.dataset.forget}`, {});
      location.reload();
    } catch (error) {
      say(error.message);
    }
  });
}
if (matchMedia("(max-width: 900px)").matches) document.querySelector(".facets")?.removeAttribute("open");
restore();
