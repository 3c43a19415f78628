// "All like this": which cases, what would change, and only then one act over all of them.

import { element, get, post } from "./api.js";

const STEPS = [0.999, 0.99, 0.97, 0.95, 0.9, 0.85, 0.8, 0.7];
const LIMIT = 5000;

export class LikeThis {
  #send;
  #dialog = document.querySelector("#like");
  #item = null;
  #kinds = [];
  #at = 0;
  #step = 3;
  #said = null;
  #preview = null;
  #asked = 0;

  constructor(send) {
    this.#send = send;
    this.#dialog?.addEventListener("keydown", (event) => this.#key(event));
    this.#dialog?.addEventListener("click", (event) => {
      const button = event.target.closest("button");
      if (button?.dataset.kind) this.#kind(Number(button.dataset.kind));
      else if (button?.dataset.key) this.#choose(button);
      else if (button?.dataset.apply) this.#apply();
    });
  }

  open(item) {
    const data = item.node.dataset;
    this.#item = item;
    this.#said = null;
    this.#kinds = [];
    if (Number(data.standsFor) > 1) this.#kinds.push({ name: "the same input", make: () => this.#members() });
    for (const id of data.slices.split(" ").filter(Boolean)) {
      const words = item.node.querySelector(`[data-slice="${CSS.escape(id)}"]`)?.textContent ?? id;
      this.#kinds.push({ name: `the slice: ${words}`, make: () => ({ slice: id }) });
    }
    this.#kinds.push({ name: "neighbours", make: () => ({ like: item.id, likeness: STEPS[this.#step], limit: LIMIT }), near: true });
    this.#at = 0;
    const choices = [...item.node.querySelectorAll('.pad[data-mode="pick"] .choice:not(.find)')].map((b) => b.cloneNode(true));
    const verdicts = [...document.querySelectorAll("#bar [data-verdict], .deciding [data-verdict]")].map((b) => b.cloneNode(true));
    this.#dialog.querySelector("#like-choices").replaceChildren(...choices, ...verdicts);
    this.#dialog.querySelector("#like-examples").replaceChildren();
    this.#dialog.showModal();
    this.#dialog.focus(); // not a button in it: those are drawn anew, and keys would get lost with them
    this.#look();
  }

  async #members() {
    const { members } = await get(`/api/cases/${this.#item.id}/members?limit=1000`);
    return { cases: [...new Set([this.#item.id, ...members.map((m) => m.case).filter(Boolean)])] };
  }

  #kind(index) {
    this.#at = (index + this.#kinds.length) % this.#kinds.length;
    this.#look();
  }

  #draw() {
    const what = this.#dialog.querySelector("#like-what");
    what.replaceChildren(
      ...this.#kinds.map((kind, i) =>
        element("button", { type: "button", "data-kind": String(i), "aria-pressed": i === this.#at ? "true" : "false" }, kind.name),
      ),
    );
    const near = this.#kinds[this.#at].near;
    this.#dialog.querySelector("#like-note").textContent = near ? `cosine of the embeddings at least ${STEPS[this.#step]}` : "";
  }

  // What would change: asked with the decision, or with "dismiss" while there is none, which changes the same cases.
  async #look() {
    const asked = ++this.#asked;
    this.#preview = null;
    this.#draw();
    const count = this.#dialog.querySelector("#like-count");
    count.textContent = "Looking …";
    this.#ask("");
    try {
      const selection = await this.#kinds[this.#at].make();
      const preview = await post("/api/review/bulk/preview", { selection, ...(this.#said?.body ?? { verdict: "dismiss" }) });
      if (asked !== this.#asked) return;
      this.#preview = { selection, ...preview };
      const by = Object.entries(preview.by).slice(0, 8).map(([name, n]) => `${name} ${n}`);
      count.textContent = `${many(preview.count)} would change${by.length ? `; answered: ${by.join(", ")}` : ""}`;
      this.#dialog.querySelector("#like-examples").replaceChildren(...preview.examples.map(card));
      this.#confirm();
    } catch (error) {
      if (asked === this.#asked) count.textContent = error.message;
    }
  }

  #choose(button) {
    if (button.dataset.verdict) this.#said = { text: button.dataset.verdict, body: { verdict: button.dataset.verdict } };
    else {
      const text = button.querySelector(".what").textContent;
      this.#said = { text, body: { verdict: "label", label: JSON.parse(button.dataset.value) } };
    }
    for (const other of this.#dialog.querySelectorAll("#like-choices button")) other.setAttribute("aria-pressed", String(other === button));
    this.#look();
  }

  #confirm() {
    if (!this.#said || !this.#preview) return;
    if (!this.#preview.count) this.#ask("Nothing would change.");
    else {
      const apply = element("button", { type: "button", "data-apply": "yes" }, element("kbd", {}, "Enter"), " apply");
      this.#ask(`"${this.#said.text}" for ${many(this.#preview.count)}? `, apply);
    }
  }

  #ask(...parts) {
    this.#dialog.querySelector("#like-ask").replaceChildren(...parts);
  }

  #apply() {
    if (!this.#said || !this.#preview?.count) return;
    const { selection, count } = this.#preview;
    const text = `${this.#said.text} for ${count}`;
    this.#send({ kind: "bulk", case: null, text, body: { selection, ...this.#said.body, expect: count } });
    this.#dialog.close();
  }

  #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.key === "Escape") return;
    event.stopPropagation();
    if (event.key === "Tab") this.#kind(this.#at + (event.shiftKey ? -1 : 1));
    else if (event.key === "[" || event.key === "]") {
      this.#step = Math.min(Math.max(this.#step + (event.key === "]" ? 1 : -1), 0), STEPS.length - 1);
      this.#look();
    } else if (event.key === "Enter") this.#apply();
    else {
      const button = this.#dialog.querySelector(`#like-choices [data-key="${CSS.escape(event.key.toLowerCase())}"]`);
      if (!button) return;
      this.#choose(button);
    }
    event.preventDefault();
  }
}

const many = (n) => (n === 1 ? "1 case" : `${n.toLocaleString("en")} cases`);

function card(one) {
  const id = one.id ?? one;
  const picture = one.picture
    ? element("img", { class: "pixels", src: `${one.picture}?side=80`, alt: "", width: "80", height: "80", loading: "lazy" })
    : element("span", { class: "no-picture", "aria-hidden": "true" }, "◇");
  const said = element("span", { class: "answer" }, element("strong", {}, one.predicted_label ?? String(one.predicted ?? "")));
  return element("li", { class: "card" }, element("a", { href: `/cases/${id}`, target: "_blank", rel: "noopener" }, picture, said));
}
