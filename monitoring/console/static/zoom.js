// Pictures that can be enlarged, with a grid of their own pixels once those are large enough to be told apart.

import { element } from "./api.js";

const GRID_FROM = 8; // screen pixels of one pixel
const MOST = 16; // times the width of the page's picture

for (const box of document.querySelectorAll(".case .zoom")) {
  const picture = box.querySelector("img");
  const width = Number(box.dataset.width) || 0;
  const grid = element("div", { class: "pixel-grid", hidden: true, "aria-hidden": "true" });
  picture.parentElement.append(grid);
  picture.parentElement.classList.add("zoomed");
  let scale = 1;
  let shown = false;

  const draw = () => {
    const whole = box.clientWidth;
    picture.parentElement.style.width = scale === 1 ? "" : `${whole * scale}px`;
    const cell = width ? picture.clientWidth / width : 0;
    grid.hidden = !shown || cell < GRID_FROM;
    grid.style.setProperty("--cell", `${cell}px`);
    label.textContent = `${Math.round(scale * 100)} %`;
  };
  const change = (factor) => {
    scale = Math.min(Math.max(scale * factor, 1), MOST);
    draw();
  };
  const button = (text, name, use) => {
    const made = element("button", { type: "button", class: "small", "aria-label": name }, text);
    made.onclick = use;
    return made;
  };
  const label = element("span", { class: "note", role: "status" });
  const bar = element("div", { class: "zoom-bar" }, button("+", "Enlarge", () => change(1.5)), button("−", "Shrink", () => change(1 / 1.5)), label);
  if (width) {
    bar.append(
      button("grid", "Grid of the picture's own pixels", (event) => {
        shown = !shown;
        event.currentTarget.setAttribute("aria-pressed", String(shown));
        draw();
      }),
    );
  }
  box.after(bar);
  box.addEventListener(
    "wheel",
    (event) => {
      if (!event.ctrlKey) return; // the page scrolls as usual
      event.preventDefault();
      change(event.deltaY < 0 ? 1.2 : 1 / 1.2);
    },
    { passive: false },
  );
  addEventListener("resize", draw);
  if (picture.complete) draw();
  else picture.addEventListener("load", draw);
}
