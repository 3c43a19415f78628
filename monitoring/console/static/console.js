import "./listing.js";

// Comfort only: every page works without it.

for (const form of document.querySelectorAll("form[data-submit-on-change]")) {
  form.addEventListener("change", () => form.requestSubmit());
}

for (const code of document.querySelectorAll("[data-copy]")) {
  if (!navigator.clipboard) break; // pages served without TLS from another machine
  const button = document.createElement("button");
  button.type = "button";
  button.className = "copy";
  button.textContent = "Copy";
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(code.textContent);
    button.textContent = "Copied";
    setTimeout(() => (button.textContent = "Copy"), 1500);
  });
  code.after(button);
}

// A chart's columns carry their numbers; the pointer, or the arrow keys, shows the nearest one.
for (const plot of document.querySelectorAll("[data-chart]")) {
  const svg = plot.querySelector("svg");
  const tip = plot.querySelector(".tip");
  const cursor = plot.querySelector(".cursor");
  const columns = [...plot.querySelectorAll(".column")].map((g) => ({
    x: Number(g.dataset.x),
    text: `${g.dataset.when}\n${g.dataset.what}`,
  }));
  if (!columns.length) continue;
  let shown = -1;

  const show = (index) => {
    shown = index;
    const { x, text } = columns[index];
    cursor.setAttribute("x1", x);
    cursor.setAttribute("x2", x);
    cursor.setAttribute("visibility", "visible");
    tip.textContent = text;
    tip.hidden = false;
    const place = (x / svg.viewBox.baseVal.width) * svg.clientWidth;
    const left = place + 12 + tip.offsetWidth > svg.clientWidth ? place - tip.offsetWidth - 12 : place + 12;
    tip.style.transform = `translateX(${Math.max(left, 0)}px)`;
  };
  const hide = () => {
    shown = -1;
    tip.hidden = true;
    cursor.setAttribute("visibility", "hidden");
  };

  svg.addEventListener("pointermove", (event) => {
    const at = ((event.clientX - svg.getBoundingClientRect().left) / svg.clientWidth) * svg.viewBox.baseVal.width;
    let best = 0;
    columns.forEach((column, i) => {
      if (Math.abs(column.x - at) < Math.abs(columns[best].x - at)) best = i;
    });
    show(best);
  });
  svg.addEventListener("pointerleave", hide);
  svg.setAttribute("tabindex", "0");
  svg.addEventListener("keydown", (event) => {
    if (event.key === "ArrowRight") show(Math.min(shown + 1, columns.length - 1));
    else if (event.key === "ArrowLeft") show(shown < 0 ? columns.length - 1 : Math.max(shown - 1, 0));
    else if (event.key === "Escape") hide();
    else return;
    event.preventDefault();
  });
  svg.addEventListener("blur", hide);
}
