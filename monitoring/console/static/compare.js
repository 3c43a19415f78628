// Comparing: gathering the cases of a list, and sending stored cases to both versions.

import { element, get, post } from "./api.js";

const list = document.querySelector("[data-compare]");
const status = (root, text) => (root.querySelector("[data-status]").textContent = text);

list?.querySelector("[data-keep]")?.addEventListener("click", async (event) => {
  event.target.disabled = true;
  try {
    const model = list.dataset.model;
    const query = new URLSearchParams(list.dataset.query);
    query.set("limit", "5000");
    const found = await get(`/api/models/${encodeURIComponent(model)}/compare?${query}`);
    const cases = [...new Set(found.items.map((pair) => pair.case).filter(Boolean))];
    if (!cases.length) throw new Error("none of these inputs is a case");
    const title = `${found.left} against ${found.right}`;
    const kept = await post("/api/selections", { model, cases, title });
    location.assign(kept.href);
  } catch (error) {
    status(list, error.message);
    event.target.disabled = false;
  }
});

const runs = document.querySelector("[data-replays]");
if (runs) follow(runs);

function follow(root) {
  const { model, left, right, testSet, selection } = root.dataset;
  const within = testSet ? { test_set: testSet } : selection ? { selection } : {};
  const button = root.querySelector("[data-start]");
  const path = `/api/models/${encodeURIComponent(model)}/replays`;
  const busy = (run) => run.state === "queued" || run.state === "running";

  button.addEventListener("click", async () => {
    button.disabled = true;
    try {
      await post(path, { versions: [...new Set([left, right])], ...within });
      status(root, "");
      watch();
    } catch (error) {
      status(root, error.message);
    }
    button.disabled = false;
  });

  function line(run) {
    const reasons = Object.entries(run.failed).map(([reason, count]) => ` · ${count}× ${reason}`);
    const made = element("li", {}, `run ${run.id}: ${run.state}, ${run.done} of ${run.total} questions to ${run.versions.join(", ")}${reasons.join("")} `);
    if (busy(run)) {
      made.append(element("progress", { max: run.total, value: run.done, "aria-label": `run ${run.id}` }));
      const stop = element("button", { type: "button" }, "Stop");
      stop.addEventListener("click", () => post(`/api/replays/${run.id}/cancel`, {}).then(watch, (error) => status(root, error.message)));
      made.append(" ", stop);
    }
    return made;
  }

  async function watch() {
    const { replays } = await get(path);
    root.querySelector("[data-runs]").replaceChildren(...replays.map(line));
    if (replays.some(busy)) setTimeout(() => watch().catch((error) => status(root, error.message)), 700);
    else if (watched) location.reload();
    watched = replays.some(busy);
  }

  let watched = false;
  if (/: (queued|running),/.test(root.querySelector("[data-runs]").textContent)) watch();
}
