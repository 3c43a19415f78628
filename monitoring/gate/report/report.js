
"use strict";
(() => {
  const AT_ONCE = 100;
  const [SET, ID, TRUTH, OLD, NEW, OLD_SURE, NEW_SURE, OLD_GOOD, NEW_GOOD, SLICES, PICTURE, WORDS] = Array(12).keys();
  const $ = (id) => document.getElementById(id);
  const rows = JSON.parse($("data").textContent);
  const change = (row) => row[NEW_GOOD] - row[OLD_GOOD];
  const kinds = {
    lost: (row) => change(row) < 0,
    gained: (row) => change(row) > 0,
    wrong: (row) => row[OLD_GOOD] < 1 && row[NEW_GOOD] < 1,
    all: () => true,
  };
  const keys = {
    truth: (row) => row[TRUTH], old: (row) => row[OLD_SURE] ?? -1, new: (row) => row[NEW_SURE] ?? -1,
    change, set: (row) => row[SET], id: (row) => row[ID],
  };
  const state = { show: "all", sort: "change", up: true, shown: AT_ONCE };
  let listed = [];

  const options = (select, values) => {
    for (const value of [...new Set(values)].sort()) select.append(new Option(value, value));
  };
  options($("set"), rows.map((row) => row[SET]));
  options($("slice"), rows.flatMap((row) => row[SLICES]));
  for (const select of [$("set"), $("slice")]) select.closest("label").hidden = select.options.length < 2;

  const cell = (tr, text) => { const td = document.createElement("td"); if (text) td.textContent = text; tr.append(td); return td; };
  const answer = (tr, row, text, sure, good) => {
    const td = cell(tr, row[text] || "—");
    td.classList.add(row[good] >= 1 ? "good" : row[good] > 0 ? "light" : "bad");
    if (row[sure] === null) return;
    const span = document.createElement("span");
    span.className = "sure";
    span.textContent = `${Math.round(100 * row[sure])} %`;
    td.append(span);
  };
  const draw = (row) => {
    const tr = document.createElement("tr"), moved = change(row);
    tr.tabIndex = -1;
    tr.className = moved < 0 ? "lost" : moved > 0 ? "gained" : "";
    const first = cell(tr, row[PICTURE] ? "" : row[WORDS]);
    if (row[PICTURE]) {
      const img = document.createElement("img");
      img.src = row[PICTURE];
      img.alt = `input ${row[ID]}`;
      img.loading = "lazy";
      first.append(img);
    }
    cell(tr, row[TRUTH]);
    answer(tr, row, OLD, OLD_SURE, OLD_GOOD);
    answer(tr, row, NEW, NEW_SURE, NEW_GOOD);
    const word = moved < 0 ? "lost" : moved > 0 ? "gained" : "";
    cell(tr, word && Math.abs(moved) < 1 ? `${word} ${Math.abs(moved).toFixed(2)}` : word);
    cell(tr, row[SET]);
    cell(tr, row[ID]).classList.add("light");
    return tr;
  };
  const fill = () => {
    $("rows").replaceChildren(...listed.slice(0, state.shown).map(draw));
    $("more").hidden = listed.length <= state.shown;
    $("count").textContent = `${listed.length.toLocaleString("en")} of ${rows.length.toLocaleString("en")}`;
  };
  const update = () => {
    const words = $("find").value.toLowerCase(), set = $("set").value, slice = $("slice").value;
    const key = keys[state.sort], sign = state.up ? 1 : -1;
    listed = rows.filter((row) => kinds[state.show](row) && (!set || row[SET] === set)
      && (!slice || row[SLICES].includes(slice))
      && (!words || [TRUTH, OLD, NEW, ID].some((i) => row[i].toLowerCase().includes(words))));
    listed.sort((a, b) => {
      const x = key(a), y = key(b);
      return sign * (typeof x === "number" ? x - y : x.localeCompare(y, "en", { numeric: true }));
    });
    state.shown = AT_ONCE;
    for (const th of document.querySelectorAll("#table th[aria-sort]")) {
      const mine = th.firstElementChild.dataset.sort === state.sort;
      th.setAttribute("aria-sort", mine ? (state.up ? "ascending" : "descending") : "none");
    }
    for (const button of document.querySelectorAll("[data-show]")) {
      button.setAttribute("aria-pressed", String(button.dataset.show === state.show));
    }
    fill();
  };
  const show = (what) => { state.show = what; update(); };
  const go = (index) => {
    if (index < 0 || index >= listed.length) return;
    if (index >= state.shown) { state.shown = index + AT_ONCE; fill(); }
    const tr = $("rows").children[index];
    tr.focus();
    tr.scrollIntoView({ block: "nearest" });
  };
  const at = () => [...$("rows").children].indexOf(document.activeElement.closest("#rows tr"));

  for (const button of document.querySelectorAll("[data-show]")) button.onclick = () => show(button.dataset.show);
  for (const button of document.querySelectorAll("[data-sort]")) {
    button.onclick = () => {
      state.up = state.sort === button.dataset.sort ? !state.up : true;
      state.sort = button.dataset.sort;
      update();
    };
  }
  for (const id of ["set", "slice"]) $(id).onchange = update;
  $("find").oninput = update;
  $("more").onclick = () => { state.shown += AT_ONCE; fill(); };
  $("rows").onclick = (event) => event.target.closest("tr")?.focus();
  document.onkeydown = (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.matches("input, select")) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    const here = at();
    if (event.key === "j") go(here + 1);
    else if (event.key === "k") go(Math.max(here - 1, 0));
    else if (event.key === "n") go(listed.findIndex((row, i) => i > here && change(row) < 0));
    else if (event.key === "/") $("find").focus();
    else if ("1234".includes(event.key)) show(["lost", "gained", "wrong", "all"][event.key - 1]);
    else return;
    event.preventDefault();
  };
  update();
})();
