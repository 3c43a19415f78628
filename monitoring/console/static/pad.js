// The keys of one case: what a key says about it. Shared by the review page and the page of a case.

import { element, get } from "./api.js";

const known = new Map(); // classes by model and version

export class Pad {
  // `root` has the sheet; `decide` takes {verdict, label?, text}.
  constructor(root, decide) {
    this.root = root;
    this.pad = root.querySelector(".pad");
    this.mode = this.pad?.dataset.mode ?? "plain";
    this.decide = decide;
  }

  get number() {
    return this.root.querySelector("[data-number]");
  }

  // A press on something with a key. Returns whether it meant something here.
  press(button) {
    if (button.dataset.verdict === "correct" && this.#boxes.length) {
      this.#right(this.#boxes);
      return true;
    }
    if (button.dataset.verdict) {
      this.decide({ verdict: button.dataset.verdict, text: button.dataset.verdict });
      return true;
    }
    if (button.classList.contains("find")) {
      this.find();
      return true;
    }
    if (!button.classList.contains("choice")) return false;
    if (this.mode === "toggle") {
      button.setAttribute("aria-pressed", button.getAttribute("aria-pressed") !== "true");
      return true;
    }
    this.#say(JSON.parse(button.dataset.value), button.querySelector(".what").textContent);
    return true;
  }

  // Boxes that are right are sent as boxes, in the form in which the model's feedback has them.
  get #boxes() {
    return this.pad?.dataset.noun === "box" && this.pad.dataset.more === "0" ? [...this.pad.querySelectorAll(".choice.given")] : [];
  }

  #right(boxes) {
    this.#say(boxes.map((b) => JSON.parse(b.dataset.value)), `correct: ${boxes.length} boxes`);
  }

  // Enter: what is marked or typed is right.
  submit() {
    if (this.mode === "number") return this.#submitNumber();
    if (this.mode !== "toggle") return false;
    const all = [...this.pad.querySelectorAll(".choice[aria-pressed]")];
    const on = all.filter((b) => b.getAttribute("aria-pressed") === "true");
    const same = all.every((b) => (b.getAttribute("aria-pressed") === "true") === b.classList.contains("given"));
    const names = on.map((b) => b.querySelector(".what").textContent).join(", ") || "nothing";
    if (same && this.#boxes.length) this.#right(all);
    else if (same) this.decide({ verdict: "correct", text: `correct: ${names}` });
    else this.#say(on.map((b) => JSON.parse(b.dataset.value)), names);
    return true;
  }

  #submitNumber() {
    const field = this.number;
    const wanted = Number(this.pad.dataset.values);
    const parts = field.value.split(/[,;\s]+/).filter(Boolean).map(Number);
    const fault = parts.length !== wanted || parts.some((x) => !Number.isFinite(x));
    field.setCustomValidity(fault ? `${wanted === 1 ? "a number is" : `${wanted} numbers are`} needed` : "");
    if (fault) {
      field.focus();
      field.reportValidity();
      return true;
    }
    field.blur();
    this.#say(wanted === 1 ? parts[0] : parts, parts.join(", "));
    return true;
  }

  #say(label, text) {
    this.decide({ verdict: "label", label, text });
  }

  async find() {
    const { model, version } = this.root.dataset;
    const name = `${model}/${version}`;
    if (!known.has(name)) {
      const path = `/review/classes/${encodeURIComponent(model)}?version=${encodeURIComponent(version)}`;
      known.set(name, (await get(path)).classes);
    }
    chooseClass(known.get(name), (index, text) => {
      if (this.mode === "toggle") this.#toggle(index, text);
      else this.#say(value(known.get(name), index), text);
    });
  }

  #toggle(index, text) {
    const found = [...this.pad.querySelectorAll(".choice[aria-pressed]")].find((b) => b.dataset.value === String(index));
    if (found) return this.press(found);
    const made = element("button", { type: "button", class: "choice", "data-key": "", "data-value": String(index), "aria-pressed": "true" });
    made.append(element("kbd"), element("span", { class: "what" }, text));
    this.pad.querySelector(".choices").append(made);
    return true;
  }
}

// A class as a label: its name where only one class has it.
function value(classes, index) {
  return classes.indexOf(classes[index]) === classes.lastIndexOf(classes[index]) ? classes[index] : index;
}

const SHOWN = 12;

export function matches(classes, text) {
  const wanted = text.toLowerCase();
  const rated = [];
  classes.forEach((name, index) => {
    const at = name.toLowerCase().indexOf(wanted);
    if (at >= 0) rated.push([at > 0, name.length, index]);
  });
  rated.sort((a, b) => a[0] - b[0] || a[1] - b[1] || a[2] - b[2]);
  return rated.slice(0, SHOWN).map(([, , index]) => index);
}

function chooseClass(classes, chosen) {
  const dialog = document.querySelector("#find");
  const field = dialog.querySelector("#find-text");
  const list = dialog.querySelector("#find-list");
  let found = [];
  let at = 0;
  const draw = () => {
    list.replaceChildren(
      ...found.map((index, i) =>
        element("li", { role: "option", id: `find-${i}`, "aria-selected": i === at ? "true" : "false", "data-index": index }, classes[index]),
      ),
    );
    if (found.length) field.setAttribute("aria-activedescendant", `find-${at}`);
    else field.removeAttribute("aria-activedescendant");
  };
  const look = () => {
    found = matches(classes, field.value);
    at = 0;
    draw();
  };
  const take = (index) => {
    dialog.close();
    chosen(index, classes[index]);
  };
  field.value = "";
  field.oninput = look;
  field.onkeydown = (event) => {
    event.stopPropagation();
    if (event.key === "ArrowDown") at = Math.min(at + 1, found.length - 1);
    else if (event.key === "ArrowUp") at = Math.max(at - 1, 0);
    else if (event.key === "Enter" && found.length) {
      event.preventDefault();
      take(found[at]);
      return;
    } else return;
    event.preventDefault();
    draw();
  };
  list.onclick = (event) => {
    const option = event.target.closest("[data-index]");
    if (option) take(Number(option.dataset.index));
  };
  look();
  dialog.showModal();
  field.focus();
}
