// A request by hand: from a form that the signature made, through the monitor, to the model and back.

import { element, get, post } from "./api.js";
import { readImage, toBase64, toTensor } from "./try_image.js";

const root = document.querySelector("[data-try]");
if (root) begin();

function begin() {
  const at = (name) => root.querySelector(`[data-${name}]`);
  const form = at("form");
  const specs = JSON.parse(root.dataset.inputs);
  const held = new Map(); // by input: what is sent, when it is neither a field nor JSON
  const percent = (value) => (value === null ? "–" : `${(100 * value).toFixed(1)} %`);
  const shown = (value) => (typeof value === "number" && !Number.isInteger(value) ? value.toPrecision(5) : String(value));

  for (const spec of specs) {
    const box = root.querySelector(`[data-input="${CSS.escape(spec.name)}"]`);
    spec.box = box;
    spec.json = box.querySelector("[data-json]");
    spec.json.addEventListener("input", () => held.delete(spec.name));
    const drop = box.querySelector("[data-drop]");
    if (!drop) continue;
    const file = box.querySelector("[data-file]");
    file.addEventListener("change", () => file.files[0] && take(spec, file.files[0]));
    for (const name of ["dragover", "dragleave", "drop"]) {
      drop.addEventListener(name, (event) => {
        event.preventDefault();
        drop.classList.toggle("over", name === "dragover");
        if (name === "drop" && event.dataTransfer.files[0]) take(spec, event.dataTransfer.files[0]);
      });
    }
  }

  function draw(spec, source) {
    const canvas = spec.box.querySelector("[data-preview]");
    if (!canvas) return;
    const context = canvas.getContext("2d");
    context.clearRect(0, 0, canvas.width, canvas.height);
    context.imageSmoothingEnabled = false;
    const scale = Math.min(canvas.width / source.width, canvas.height / source.height);
    const [width, height] = [source.width * scale, source.height * scale];
    context.drawImage(source, (canvas.width - width) / 2, (canvas.height - height) / 2, width, height);
  }

  async function take(spec, file) {
    const note = spec.box.querySelector("[data-note]");
    try {
      const bitmap = await readImage(file);
      if (spec.kind === "file") {
        held.set(spec.name, { name: spec.name, base64: toBase64(new Uint8Array(await file.arrayBuffer())) });
        note.textContent = `${file.name}: ${bitmap.width} × ${bitmap.height} pixels, sent as it is; the service decodes it`;
        draw(spec, bitmap);
        return;
      }
      const made = toTensor(bitmap, spec);
      held.set(spec.name, { name: spec.name, shape: made.shape, data: made.data });
      note.textContent = made.note;
      draw(spec, made.canvas);
    } catch {
      note.textContent = "This browser cannot decode that file as an image.";
    }
  }

  function given(spec) {
    const text = spec.json.value.trim();
    if (held.has(spec.name)) return held.get(spec.name);
    if (text) {
      try {
        return { name: spec.name, data: JSON.parse(text) };
      } catch {
        throw new Error(`${spec.name}: the JSON cannot be read`);
      }
    }
    if (spec.kind === "fields") return { name: spec.name, data: [...spec.box.querySelectorAll("[data-field]")].map((f) => Number(f.value)) };
    if (spec.kind === "text") return { name: spec.name, data: [spec.box.querySelector("[data-text]").value] };
    throw new Error(`${spec.name}: choose an image, take an example, or paste JSON`);
  }

  async function send() {
    at("status").textContent = "Asking the model…";
    at("answer").hidden = true;
    try {
      const inputs = specs.map(given);
      const version = form.elements.version.value || null;
      show(await post(`/api/models/${encodeURIComponent(root.dataset.model)}/try`, { version, inputs }));
    } catch (error) {
      at("status").textContent = error.message;
      at("status").className = "bad";
      return;
    }
    at("status").textContent = "";
    at("status").className = "note";
    at("answer").hidden = false;
  }

  function show(tried) {
    const row = tried.rows[0];
    const answer = row ? (row.predicted_label ?? row.predicted ?? row.value ?? "an answer") : "an answer";
    at("head").textContent = `${tried.model} ${tried.version}: ${shown(answer)}`;
    at("time").textContent = `${tried.milliseconds} ms there and back`;
    bars(tried, row);
    const reasons = (row?.reasons ?? []).map((reason) => reason.replaceAll("_", " "));
    at("flags").textContent = row
      ? `P(wrong) ${percent(row.p_wrong)}${reasons.length ? `; such a request would be looked at: ${reasons.join(", ")}` : ""}`
      : "";
    facts(at("scores"), Object.entries(row?.scores ?? {}).map(([name, value]) => [name, value === null ? "–" : shown(value)]));
    facts(at("outputs"), tried.outputs.map((o) => [`${o.name} (${o.datatype} ${JSON.stringify(o.shape)})`, o.data ? o.data.slice(0, 64).map(shown).join(", ") + (o.data.length > 64 ? ", …" : "") : "too long to show"]));
    at("missing").textContent = tried.missing ?? "";
    const link = at("map-link");
    link.hidden = !row?.place;
    if (row?.place) link.href = `/models/${encodeURIComponent(tried.model)}/map?version=${encodeURIComponent(tried.version)}&focus=${row.place.join(",")}`;
    at("near").replaceChildren(...tried.neighbours.map(near));
    at("curl").textContent = tried.curl;
    at("python").textContent = tried.python;
  }

  function bars(tried, row) {
    const values = (row?.probabilities ?? []).map((value, i) => [tried.class_names[i] ?? String(i), value ?? 0, i]);
    values.sort((a, b) => b[1] - a[1]);
    at("bars").replaceChildren(
      ...values.slice(0, 10).map(([name, value, i]) => {
        const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
        svg.setAttribute("viewBox", "0 0 100 4");
        svg.setAttribute("preserveAspectRatio", "none");
        svg.setAttribute("aria-hidden", "true");
        for (const [kind, width] of [["track", 100], ["fill", 100 * value]]) {
          const bar = document.createElementNS("http://www.w3.org/2000/svg", "rect");
          bar.setAttribute("class", kind);
          bar.setAttribute("width", width);
          bar.setAttribute("height", 4);
          svg.append(bar);
        }
        const line = element("tr", { class: i === row.predicted ? "predicted" : "" }, element("th", { scope: "row" }, name));
        line.append(element("td", { class: "wide" }, svg), element("td", { class: "num" }, percent(value)));
        return line;
      }),
    );
  }

  function facts(list, pairs) {
    list.replaceChildren(...pairs.map(([name, value]) => element("div", {}, element("dt", {}, name), element("dd", {}, value))));
  }

  function near(found) {
    const inside = [];
    if (found.picture) inside.push(element("img", { class: "pixels", src: `${found.picture}?side=120`, alt: "", width: 120, height: 120, loading: "lazy" }));
    inside.push(element("span", { class: "answer" }, element("strong", {}, found.predicted ?? "–")));
    inside.push(element("span", { class: "meter" }, `likeness ${found.likeness.toFixed(3)}`));
    const content = found.case ? element("a", { href: `/cases/${found.case}` }, ...inside) : element("div", {}, ...inside);
    return element("li", { class: "card" }, content);
  }

  async function examples() {
    const list = at("examples");
    const version = form.elements.version.value;
    const asked = version ? `?version=${encodeURIComponent(version)}` : "";
    try {
      const { examples: found } = await get(`/api/models/${encodeURIComponent(root.dataset.model)}/try${asked}`);
      list.replaceChildren(...found.map(button));
      if (!found.length) list.replaceChildren(element("span", { class: "note" }, "There are no stored inputs yet."));
    } catch (error) {
      list.replaceChildren(element("span", { class: "note" }, error.message));
    }
  }

  function button(example) {
    const made = element("button", { type: "button", title: example.label });
    if (example.picture) made.append(element("img", { src: `${example.picture}?side=64`, alt: "" }));
    made.append(element("span", {}, example.label));
    made.addEventListener("click", async () => {
      for (const spec of specs) {
        const input = example.inputs.find((one) => one.name === spec.name);
        held.set(spec.name, { name: input.name, shape: input.shape, ...(input.base64 ? { base64: input.base64 } : { data: input.data }) });
        spec.json.value = "";
        const fields = spec.box.querySelectorAll("[data-field]");
        if (fields.length && input.data) {
          input.data.flat().forEach((value, i) => fields[i] && (fields[i].value = value));
          held.delete(spec.name);
        }
        const note = spec.box.querySelector("[data-note]");
        if (note) note.textContent = `${example.name}, exactly as it was recorded`;
        if (example.picture) {
          const picture = new Image();
          picture.src = `${example.picture}?side=160`;
          await picture.decode().then(() => draw(spec, picture), () => {});
        }
      }
      send();
    });
    return made;
  }

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    send();
  });
  form.elements.version.addEventListener("change", examples);
  examples().then(() => (root.dataset.ready = "true"));
}
