// The map of a version: points, what their colours mean, and what can be done with those that are chosen.

import { call, element, newKey, post } from "./api.js";
import { colouring, pixel } from "./map_colours.js";
import { caseId, readPoints } from "./map_file.js";
import { MapView } from "./map_view.js";

const root = document.querySelector("[data-map]");
const at = (name) => root.querySelector(`[data-${name}]`);
const say = (text) => (at("status").textContent = text);
const many = (count, one) => `${count.toLocaleString("en")} ${one}${count === 1 ? "" : "s"}`;

const canvas = at("canvas");
const overlay = at("overlay");
let [map, view, mode, hidden, groups] = [null, null, "pan", new Set(), []];

function palette() {
  const style = getComputedStyle(root);
  const read = (name) => pixel(style.getPropertyValue(name));
  return {
    background: read("--panel"),
    reference: read("--map-reference"),
    unknown: read("--map-unknown"),
    good: read("--map-good"),
    bad: read("--map-bad"),
    low: read("--map-low"),
    middle: read("--map-middle"),
    high: read("--map-high"),
    classes: Array.from({ length: 12 }, (_, i) => read(`--map-${i}`)),
  };
}

function recolour() {
  const colours = palette();
  const made = colouring(at("colour").value, map, colours);
  groups = made.groups;
  hidden = new Set();
  view.setColours(made.colours, colours.background);
  legend(made);
  filter();
}

function legend({ scale }) {
  const list = at("legend");
  list.replaceChildren();
  if (scale) {
    const words = (value) => (scale.by === "time" ? clock(value) : `${Math.round(value * 100)} %`);
    const bar = element("canvas", { width: 240, height: 10, class: "scale-bar", "aria-hidden": "true" });
    const context = bar.getContext("2d");
    scale.colours.forEach((colour, i) => {
      context.fillStyle = colour;
      context.fillRect((i * 240) / scale.colours.length, 0, 240 / scale.colours.length + 1, 10);
    });
    const ends = element("span", { class: "scale-ends" }, element("span", {}, words(scale.low)), element("span", {}, words(scale.high)));
    list.append(element("li", {}, bar, ends));
    return;
  }
  for (const group of groups) {
    const box = element("input", { type: "checkbox", checked: true });
    box.addEventListener("change", () => {
      if (box.checked) hidden.delete(group.key);
      else hidden.add(group.key);
      filter();
    });
    const swatch = element("canvas", { width: 12, height: 12, class: "map-swatch", "aria-hidden": "true" });
    const context = swatch.getContext("2d");
    context.fillStyle = group.colour;
    context.fillRect(0, 0, 12, 12);
    const label = element("label", {}, box, swatch, element("span", { class: "grow" }, group.label));
    label.append(element("span", { class: "num" }, group.points.toLocaleString("en")));
    list.append(element("li", {}, label));
  }
}

const clock = (seconds) => new Date(seconds * 1000).toISOString().slice(0, 16).replace("T", " ");

// Which points are drawn: by kind, by the legend, and by time.
function filter() {
  const { kind, time } = map.columns;
  const kinds = [...root.querySelectorAll("[data-kind]")].map((box) => box.checked);
  const [from, to] = span();
  const group = groups[0]?.group;
  let shown = 0;
  for (let i = 0; i < map.count; i++) {
    const timely = kind[i] === 2 || (time[i] >= from && time[i] <= to);
    view.visible[i] = kinds[kind[i]] && timely && !(group && hidden.has(group(i))) ? 1 : 0;
    if (!view.visible[i]) view.chosen[i] = 0;
    shown += view.visible[i];
  }
  at("times").textContent = map.first < map.last ? `${clock(from)} to ${clock(to)} UTC` : "";
  at("shown").textContent = `${many(shown, "point")} drawn`;
  view.draw();
  tell();
}

function span() {
  const [a, b] = [at("from"), at("to")].map((slider) => Number(slider.value) / 1000);
  const length = map.last - map.first;
  return [map.first + Math.min(a, b) * length - 1e-3, map.first + Math.max(a, b) * length + 1e-3];
}

function chosenCases() {
  const found = [];
  for (let i = 0; i < map.count; i++) if (view.chosen[i] && map.columns.kind[i] === 1) found.push(caseId(map.columns.id[i]));
  return found;
}

// What is chosen, in words.
function tell() {
  const counts = [0, 0, 0];
  let [wrong, labelled, sum, scored] = [0, 0, 0, 0];
  const classes = new Map();
  const { kind, truth, p_wrong: p, predicted } = map.columns;
  for (let i = 0; i < map.count; i++) {
    if (!view.chosen[i]) continue;
    counts[kind[i]]++;
    if (kind[i] === 2) continue;
    if (truth[i]) labelled++;
    if (truth[i] === 2) wrong++;
    if (Number.isFinite(p[i])) [sum, scored] = [sum + p[i], scored + 1];
    if (predicted[i] >= 0) classes.set(predicted[i], (classes.get(predicted[i]) ?? 0) + 1);
  }
  const total = counts[0] + counts[1] + counts[2];
  view.anyChosen = total > 0;
  at("chosen").hidden = !total;
  at("nothing").hidden = total > 0;
  if (!total) return;
  at("chosen-count").textContent = many(total, "point");
  const facts = [`${many(counts[1], "case")}, ${many(counts[0], "other record")}, ${counts[2]} of the reference`];
  if (labelled) facts.push(`${wrong} of ${labelled} labelled are wrong`);
  if (scored) facts.push(`mean P(wrong) ${Math.round((100 * sum) / scored)} %`);
  const top = [...classes.entries()].sort((a, b) => b[1] - a[1]).slice(0, 3);
  if (top.length) facts.push(`answered ${top.map(([c, n]) => `${map.header.classes[c] ?? c} ${n}×`).join(", ")}`);
  at("chosen-facts").replaceChildren(...facts.map((text) => element("li", {}, text)));
  for (const button of root.querySelectorAll("[data-act]")) button.disabled = !counts[1] && button.dataset.act !== "clear";
}

async function keep(title) {
  return post("/api/selections", { model: root.dataset.model, cases: chosenCases(), title });
}

const acts = {
  async open() {
    location.assign((await keep("from the map")).href);
  },
  async review() {
    const kept = await keep("from the map");
    const tag = `map-${kept.id}`;
    await tagged(tag);
    location.assign(`/review?model=${encodeURIComponent(root.dataset.model)}&tag=${tag}`);
  },
  async tag() {
    const tag = at("tag").value.trim();
    if (!tag) return say("Type a tag first.");
    await tagged(tag);
    say(`Tagged ${many(chosenCases().length, "case")} “${tag}”.`);
  },
  async clear() {
    view.shape = null;
    view.chooseWhere(() => false);
    tell();
  },
};

const tagged = (tag) => post("/api/review/tags", { key: newKey(), selection: { cases: chosenCases() }, add: [tag] });

for (const button of root.querySelectorAll("[data-act]")) {
  button.addEventListener("click", async () => {
    button.disabled = true;
    say("");
    try {
      await acts[button.dataset.act]();
    } catch (error) {
      say(error.message);
    }
    button.disabled = false;
  });
}

// Pointer: drag to pan, or to draw a shape; the wheel zooms where it points.
function pointers() {
  const place = (event) => {
    const box = canvas.getBoundingClientRect();
    return [(event.clientX - box.left) * view.ratio, (event.clientY - box.top) * view.ratio];
  };
  let start = null;
  overlay.addEventListener("pointerdown", (event) => {
    overlay.setPointerCapture(event.pointerId);
    start = { at: place(event), last: place(event), add: event.shiftKey };
    if (mode !== "pan") view.shape = [start.at];
  });
  overlay.addEventListener("pointermove", (event) => {
    const here = place(event);
    if (!start) return hover(...here, event);
    const { at: begin, last } = start;
    if (mode === "pan") view.pan(here[0] - last[0], here[1] - last[1]);
    else if (mode === "rectangle") view.shape = [begin, [here[0], begin[1]], here, [begin[0], here[1]]];
    else if (Math.hypot(here[0] - last[0], here[1] - last[1]) > 3) view.shape.push(here);
    else return;
    start.last = here;
    if (mode !== "pan") view.outline();
  });
  overlay.addEventListener("pointerup", (event) => {
    if (!start) return;
    const here = place(event);
    const still = Math.hypot(here[0] - start.at[0], here[1] - start.at[1]) < 4;
    if (mode !== "pan" && view.shape.length > 2) {
      view.choose(view.shape, start.add);
      tell();
    } else if (still) openNearest(...here);
    start = null;
  });
  overlay.addEventListener("pointerleave", () => (at("tip").hidden = true));
  overlay.addEventListener(
    "wheel",
    (event) => {
      event.preventDefault();
      view.zoom(Math.exp(-event.deltaY / 400), ...place(event));
    },
    { passive: false },
  );
}

function openNearest(px, py) {
  const i = view.nearest(px, py);
  if (i >= 0 && map.columns.kind[i] === 1) location.assign(`/cases/${caseId(map.columns.id[i])}`);
}

let shownPoint = -1;
function hover(px, py, event) {
  const i = view.nearest(px, py);
  const tip = at("tip");
  if (i < 0) {
    tip.hidden = true;
    shownPoint = -1;
    return;
  }
  const box = root.querySelector(".map-plot").getBoundingClientRect();
  const [x, y] = [event.clientX - box.left, event.clientY - box.top];
  tip.style.transform = `translate(${x > box.width / 2 ? x - 190 : x + 16}px, ${Math.min(y, box.height - 190)}px)`;
  tip.hidden = false;
  if (i === shownPoint) return;
  shownPoint = i;
  const { kind, id, predicted, p_wrong: p, truth, time } = map.columns;
  const lines = [kind[i] === 2 ? "reference" : clock(time[i])];
  if (predicted[i] >= 0) lines.unshift(`answered ${map.header.classes[predicted[i]] ?? predicted[i]}`);
  if (Number.isFinite(p[i])) lines.push(`P(wrong) ${Math.round(p[i] * 100)} %`);
  if (truth[i]) lines.push(truth[i] === 1 ? "right" : "wrong");
  tip.replaceChildren();
  const picture = ["/api/inputs/" + id[i] + ".png", `/api/cases/${caseId(id[i])}/input.png`][kind[i]];
  if (map.header.pictures && picture) {
    tip.append(element("img", { src: `${picture}?side=128`, alt: "", width: 120, height: 120, class: "pixels" }));
  }
  tip.append(...lines.map((text, n) => element(n ? "span" : "strong", {}, text)));
}

// The keyboard's way: groups of like points as a table.
function clusters() {
  const body = at("clusters");
  const share = (value) => (value === null ? "–" : `${Math.round(value * 100)} %`);
  map.header.clusters.forEach((group, number) => {
    const button = element("button", { type: "button" }, `Choose group ${number + 1}`);
    button.addEventListener("click", () => {
      view.shape = null;
      view.marks = [{ x: group.x, y: group.y, text: `group ${number + 1}` }];
      view.chooseWhere((i) => map.columns.cluster[i] === number);
      root.querySelector(".map-plot").scrollIntoView({ block: "nearest" });
      tell();
    });
    const named = group.predicted === null ? "–" : `${map.header.classes[group.predicted] ?? group.predicted} ${share(group.predicted_share)}`;
    const row = element("tr", {}, element("th", { scope: "row" }, button));
    const wrong = group.labelled ? `${group.wrong} of ${group.labelled}` : "–";
    for (const text of [group.live, group.cases, named, share(group.p_wrong), wrong]) {
      row.append(element("td", { class: "num" }, String(text)));
    }
    body.append(row);
  });
}

function keys(event) {
  const step = 40 * view.ratio;
  const moves = { ArrowLeft: [step, 0], ArrowRight: [-step, 0], ArrowUp: [0, step], ArrowDown: [0, -step] };
  if (moves[event.key]) view.pan(...moves[event.key]);
  else if (event.key === "+" || event.key === "=") view.zoom(1.3);
  else if (event.key === "-") view.zoom(1 / 1.3);
  else if (event.key === "0") view.whole();
  else if (event.key === "Escape") acts.clear();
  else return;
  event.preventDefault();
}

async function begin() {
  say("Loading points…");
  const answer = await call("GET", root.dataset.points);
  map = readPoints(await answer.arrayBuffer());
  say("");
  if (!map.count) {
    at("empty").hidden = false;
    root.querySelector(".map-body").hidden = true;
    return;
  }
  const live = Array.from(map.columns.time).filter((seconds) => seconds > 0);
  map.first = live.reduce((a, b) => Math.min(a, b), Infinity);
  map.last = live.reduce((a, b) => Math.max(a, b), -Infinity);
  view = new MapView(canvas, overlay, map.columns, map.count);
  for (let i = 0; i < map.count; i++) view.size[i] = map.columns.kind[i] === 1 ? 3 : map.columns.kind[i] === 0 ? 2 : 1;
  const explained = map.header.projection.explained.reduce((a, b) => a + b, 0);
  const fitted = map.header.projection.fitted_on === "reference" ? "the reference" : "the first records: there is no reference";
  const drawn = map.columns.kind.filter((kind) => kind < 2).length;
  const left = drawn < map.header.totals.records ? `; a uniform sample of ${drawn.toLocaleString("en")} is drawn` : "";
  at("about").textContent = `First two principal components of ${fitted}; they hold ${Math.round(explained * 100)} % of its variance. ${many(map.header.totals.records, "request")}, ${many(map.header.totals.cases, "case")}${left}.`;
  if (!map.header.slices.length) at("colour").querySelector("[value=slice]").disabled = true;
  const focus = root.dataset.focus.split(",").map(Number);
  if (focus.length === 2 && focus.every(Number.isFinite)) view.marks = [{ x: focus[0], y: focus[1], text: "tried" }];
  clusters();
  pointers();
  recolour();
  at("colour").addEventListener("change", recolour);
  for (const name of ["from", "to"]) at(name).addEventListener("input", filter);
  for (const box of root.querySelectorAll("[data-kind]")) box.addEventListener("change", filter);
  for (const radio of root.querySelectorAll("[data-mode]")) {
    radio.addEventListener("change", () => {
      mode = radio.value;
      overlay.dataset.mode = mode;
    });
  }
  at("whole").addEventListener("click", () => view.whole());
  at("in").addEventListener("click", () => view.zoom(1.5));
  at("out").addEventListener("click", () => view.zoom(1 / 1.5));
  overlay.addEventListener("keydown", keys);
  new ResizeObserver(() => view.fit()).observe(root.querySelector(".map-plot"));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", recolour);
  root.mapView = view; // for measuring
  root.dataset.ready = "true";
}

begin().catch((error) => say(error.message));
