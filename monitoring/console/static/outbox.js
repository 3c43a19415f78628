// What was decided, until the console has said that it has it.
//
// Every entry is written to localStorage before anything else happens, and sent in the order in which it was made, one
// at a time, under a key of its own: sent twice it is one act. So a lost connection, a closed browser or a reload loses
// nothing. Entries of another person wait until that person is signed in again.

import { Outage, SignIn, newKey, post, get } from "./api.js";

const OUT = "hardcase.out."; // one item an entry: tabs do not overwrite each other's
const ACTS = "hardcase.acts."; // what can be undone, newest last
const KEPT = 50;
const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 10_000;

export class Outbox extends EventTarget {
  #actor;
  #entries = [];
  #flying = null;
  #wait = FIRST_WAIT_MS;
  #timer = 0;
  #last = 0;
  problem = "";
  kept = true;

  constructor(actor) {
    super();
    this.#actor = actor;
    this.#entries = this.#stored().filter((entry) => entry.actor === actor);
    addEventListener("online", () => this.pump());
  }

  get waiting() {
    return this.#entries.filter((entry) => entry.state === "waiting").length;
  }

  get conflicts() {
    return this.#entries.filter((entry) => entry.state === "conflict");
  }

  get othersWaiting() {
    return new Set(this.#stored().filter((e) => e.actor !== this.#actor).map((e) => e.actor));
  }

  cases() {
    return new Set(this.#entries.map((entry) => entry.case).filter(Boolean));
  }

  // `entry`: {kind: "decide", case, edition, verdict, label?, comment?, text} | {kind: "bulk", body, text} |
  // {kind: "undo", of: key} | {kind: "undo", act: id}. An edition of null is looked up when it is sent.
  push(entry) {
    this.#last = Math.max(Date.now(), this.#last + 1);
    const made = { ...entry, key: newKey(), at: this.#last, actor: this.#actor, state: "waiting" };
    this.#entries.push(made);
    this.#store(made);
    if (made.kind !== "undo") this.#remember(made);
    this.#changed();
    this.pump();
    return made;
  }

  // What `z` takes back: the newest act that was not taken back yet.
  newest() {
    return this.#acts().findLast((act) => !act.undone) ?? null;
  }

  // Take back an act of `newest`. Returns true when it had not been sent: then there is nothing to be taken back.
  undo(act) {
    this.#rewrite(act.key, { undone: true });
    const entry = this.#entries.find((e) => e.key === act.key);
    if (entry && entry.state === "waiting" && entry !== this.#flying && !entry.body_sent) {
      this.#drop(entry);
      return true;
    }
    if (entry && entry.state === "conflict") {
      this.#drop(entry);
      return true;
    }
    this.push({ kind: "undo", of: act.key, case: act.case, text: act.text });
    return false;
  }

  // A conflict is over: they keep what they said, or `replace` is sent in its place.
  resolve(entry, replace) {
    this.#drop(entry);
    this.#rewrite(entry.key, { undone: true });
    if (replace) this.push(replace);
  }

  async pump() {
    clearTimeout(this.#timer);
    if (this.#flying) return;
    const entry = this.#entries.find((e) => e.state === "waiting");
    if (!entry) return;
    this.#flying = entry;
    try {
      const answer = await this.#send(entry);
      this.problem = "";
      this.#wait = FIRST_WAIT_MS;
      this.#settle(entry, answer);
    } catch (error) {
      if (error instanceof Outage || error instanceof SignIn) {
        this.problem = error.message;
        this.#timer = setTimeout(() => this.pump(), this.#wait);
        this.#wait = Math.min(this.#wait * 2, LONGEST_WAIT_MS);
        this.#flying = null;
        this.#changed();
        return;
      }
      this.#rewrite(entry.key, { undone: true });
      this.#drop(entry);
      this.dispatchEvent(new CustomEvent("refused", { detail: { entry, text: error.message } }));
    }
    this.#flying = null;
    this.#changed();
    this.pump();
  }

  // The page goes: what has not been sent is given to the browser to send. It stays stored until it is acknowledged.
  farewell() {
    if (this.#entries.some((e) => e.kind === "undo" && e.state === "waiting")) return; // these must go in order
    for (const entry of this.#entries.slice(0, 20)) {
      if (entry.state !== "waiting" || entry === this.#flying || entry.kind !== "decide" || entry.edition === null) continue;
      navigator.sendBeacon("/api/review/decisions", json(this.#body(entry)));
    }
  }

  async #send(entry) {
    if (entry.kind === "undo") {
      const act = entry.act ?? this.#acts().find((a) => a.key === entry.of)?.act;
      if (!act) return { skipped: true }; // what it would take back was refused
      return post(`/api/review/acts/${act}/undo`, { key: entry.key }, { keepalive: true });
    }
    if (entry.kind === "bulk") return post("/api/review/bulk", { key: entry.key, ...entry.body });
    if (entry.second) {
      await post("/api/review/opinions", { key: `${entry.key}.o`, selection: { cases: [entry.case] }, opinions: 2 });
    }
    if (entry.edition === null) {
      const sheet = await get(`/review/sheets/${entry.case}?format=json`);
      entry.edition = sheet.standing.edition;
    }
    entry.body_sent = true; // from here on the same key must say the same
    this.#store(entry);
    return post("/api/review/decisions", this.#body(entry), { keepalive: true });
  }

  #body(entry) {
    const decision = { case: entry.case, edition: entry.edition, verdict: entry.verdict };
    if (entry.label !== undefined && entry.label !== null) decision.label = entry.label;
    if (entry.comment) decision.comment = entry.comment;
    return { key: entry.key, decisions: [decision] };
  }

  #settle(entry, answer) {
    const result = entry.kind === "decide" ? answer.results[0] : null;
    if (result && !result.ok) {
      entry.state = "conflict";
      entry.conflict = result.conflict;
      entry.standing = result.standing;
      this.#store(entry);
      this.dispatchEvent(new CustomEvent("conflict", { detail: entry }));
      return;
    }
    if (answer.act !== undefined && entry.kind !== "undo") this.#rewrite(entry.key, { act: answer.act });
    this.#drop(entry);
    this.dispatchEvent(new CustomEvent("done", { detail: { entry, answer } }));
  }

  #changed() {
    this.dispatchEvent(new CustomEvent("change"));
  }

  #drop(entry) {
    this.#entries = this.#entries.filter((e) => e !== entry);
    this.#storage((s) => s.removeItem(OUT + entry.key));
    this.#changed();
  }

  #store(entry) {
    this.#storage((s) => s.setItem(OUT + entry.key, JSON.stringify(entry)));
  }

  #stored() {
    const found = [];
    this.#storage((s) => {
      for (let i = 0; i < s.length; i++) {
        const name = s.key(i);
        if (name.startsWith(OUT)) found.push(JSON.parse(s.getItem(name)));
      }
    });
    return found.sort((a, b) => a.at - b.at);
  }

  #acts() {
    return this.#storage((s) => JSON.parse(s.getItem(ACTS + this.#actor) ?? "[]")) ?? this.memory ?? [];
  }

  #write(acts) {
    this.memory = acts;
    this.#storage((s) => s.setItem(ACTS + this.#actor, JSON.stringify(acts.slice(-KEPT))));
  }

  #remember(entry) {
    this.#write([...this.#acts(), { key: entry.key, act: null, case: entry.case ?? null, kind: entry.kind, text: entry.text }]);
  }

  #rewrite(key, changes) {
    this.#write(this.#acts().map((act) => (act.key === key ? { ...act, ...changes } : act)));
  }

  #storage(use) {
    try {
      return use(localStorage);
    } catch {
      this.kept = false; // storage is full or forbidden: entries live as long as the page
      return undefined;
    }
  }
}

export const json = (value) => new Blob([JSON.stringify(value)], { type: "application/json" });
