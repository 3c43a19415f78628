// The cases that come next: leased, fetched, and laid out in the page, so that showing one is only taking away `hidden`.

import { call, element, post } from "./api.js";

const AHEAD = 6; // cases that are ready behind the one on the stage
const MOST = 50; // of one lease
const SKIPS = 200; // that a lease is told to leave out
const AGAIN_MS = 2000;
const LONGEST_MS = 20_000;

export class Feed extends EventTarget {
  #actor;
  #filters;
  #stage;
  #taken;
  #ready = [];
  #done = new Set(); // decided or skipped here: not to be shown again, whatever the queue says
  #skips = new Set();
  #busy = false;
  #again = false;
  #pause = AGAIN_MS;
  #timer = 0;
  problem = "";
  exhausted = false;
  holding = () => [];

  constructor({ actor, filters, stage, leaseS, taken }) {
    super();
    this.#actor = actor;
    this.#filters = filters;
    this.#stage = stage;
    this.#taken = taken;
    setInterval(() => this.fill(true), (leaseS * 1000) / 4); // keeps what this page holds
  }

  next() {
    return this.#ready.shift() ?? null;
  }

  held() {
    return this.#ready.map((item) => item.id);
  }

  finished(id) {
    this.#done.add(id);
  }

  skipped(id) {
    this.#done.add(id);
    this.#skips.add(id);
    post("/api/review/release", { cases: [id] }).catch(() => {}); // else its lease ends by itself
  }

  back(id) {
    this.#done.delete(id);
    this.#skips.delete(id);
  }

  putBack(item) {
    item.node.hidden = true;
    this.#ready.unshift(item);
  }

  // Many cases were changed at once: what is ready may be decided already.
  forget(except, again = false) {
    if (again) this.#done = new Set(this.#skips); // an undo of many: any of them may come back
    for (const item of this.#ready) if (item.id !== except) item.node.remove();
    this.#ready = [];
    this.fill(true);
  }

  // These were decided together: the others that are ready stay.
  decided(ids) {
    const gone = new Set(ids);
    for (const id of ids) this.#done.add(id);
    for (const item of this.#ready) if (gone.has(item.id)) item.node.remove();
    this.#ready = this.#ready.filter((item) => !gone.has(item.id));
    this.fill();
  }

  // See that enough cases are ready; `extend` asks even when they are, so that their leases go on.
  async fill(extend = false) {
    clearTimeout(this.#timer);
    if (this.#busy) {
      this.#again ||= extend;
      return;
    }
    if (!extend && this.#ready.length >= AHEAD / 2) return;
    this.#busy = true;
    try {
      const held = new Set([...this.held(), ...this.holding()]);
      const count = Math.min(MOST, held.size + AHEAD);
      const skip = [...this.#skips].slice(-SKIPS);
      const answer = await post("/api/review/lease", { ...this.#filters, count, ...(skip.length ? { skip } : {}) });
      this.problem = "";
      this.#pause = AGAIN_MS;
      await this.#take(answer.cases);
    } catch (error) {
      this.problem = error.message;
      this.#timer = setTimeout(() => this.fill(true), this.#pause);
      this.#pause = Math.min(this.#pause * 2, LONGEST_MS);
    }
    this.#busy = false;
    if (this.#again) {
      this.#again = false;
      this.fill(true);
    } else if (!this.problem && !this.#ready.length && !this.exhausted) {
      this.#timer = setTimeout(() => this.fill(), 500);
    } else if (!this.problem && this.exhausted) {
      this.#timer = setTimeout(() => this.fill(true), LONGEST_MS); // others may come
    }
    this.dispatchEvent(new CustomEvent("change"));
  }

  async #take(cases) {
    const mine = new Set(cases.map((c) => c.id));
    for (const item of this.#ready.filter((i) => i.leased && !mine.has(i.id))) item.node.remove(); // somebody else's now
    this.#ready = this.#ready.filter((i) => !i.leased || mine.has(i.id));
    const busy = new Set([...this.held(), ...this.holding(), ...this.#done, ...this.#taken()]);
    const fresh = cases.filter((c) => !busy.has(c.id));
    this.exhausted = !fresh.length && !this.#ready.length;
    await Promise.all(fresh.slice(0, 1).map((c) => this.#add(c))); // the first one at once
    for (let i = 1; i < fresh.length; i += 3) await Promise.all(fresh.slice(i, i + 3).map((c) => this.#add(c)));
  }

  async #add(one) {
    const item = await this.load(one.id, one.standing.edition);
    if (this.#done.has(one.id) || this.held().includes(one.id) || this.holding().includes(one.id)) {
      item.node.remove();
      return;
    }
    item.leased = true;
    this.#ready.push(item);
    this.dispatchEvent(new CustomEvent("ready"));
  }

  // A case's sheet, laid out and hidden. Without an edition, the one that the sheet was made at.
  async load(id, edition) {
    const html = await (await call("GET", `/review/sheets/${id}`)).text();
    const template = element("template");
    template.innerHTML = html; // made by the console, where every captured text is escaped
    const node = template.content.querySelector(".sheet");
    node.hidden = true;
    const standing = node.querySelector(".standing");
    standing.hidden = standing.dataset.leasedBy === this.#actor; // who has it knows
    this.#stage.append(node);
    await Promise.all([...node.querySelectorAll("img")].map((image) => image.decode().catch(() => {}))); // a picture may be gone
    return { id, node, edition: edition ?? Number(node.dataset.edition), leased: false };
  }
}
