// A scatter plot of many points: drawn pixel by pixel into one image, which takes a few milliseconds for 50,000 points
// and needs no graphics card. Knows nothing of what the points mean.

const CELLS = 128; // of the grid that finds the nearest point
const REACH = 14; // pixels

export class MapView {
  constructor(canvas, overlay, columns, count) {
    this.canvas = canvas;
    this.overlay = overlay;
    this.x = columns.x;
    this.y = columns.y;
    this.count = count;
    this.colour = new Uint32Array(count);
    this.size = new Uint8Array(count).fill(1); // radius in pixels
    this.visible = new Uint8Array(count).fill(1);
    this.chosen = new Uint8Array(count);
    this.anyChosen = false;
    this.frames = []; // how long the last ones took, in ms
    this.background = 0xffffffff;
    this.waiting = 0;
    this.marks = [];
    this.bounds();
    this.index();
    this.fit();
  }

  bounds() {
    let [left, right, low, high] = [Infinity, -Infinity, Infinity, -Infinity];
    for (let i = 0; i < this.count; i++) {
      left = Math.min(left, this.x[i]);
      right = Math.max(right, this.x[i]);
      low = Math.min(low, this.y[i]);
      high = Math.max(high, this.y[i]);
    }
    if (!(right > left)) [left, right] = [left - 1 || -1, left + 1 || 1];
    if (!(high > low)) [low, high] = [low - 1 || -1, low + 1 || 1];
    this.box = { left, right, low, high };
  }

  // A grid over the points: the points of cell c are order[starts[c] .. starts[c + 1]].
  index() {
    const { left, right, low, high } = this.box;
    this.cellOf = (x, y) =>
      Math.min(CELLS - 1, Math.max(0, Math.floor(((x - left) / (right - left)) * CELLS))) * CELLS +
      Math.min(CELLS - 1, Math.max(0, Math.floor(((y - low) / (high - low)) * CELLS)));
    const starts = new Uint32Array(CELLS * CELLS + 1);
    for (let i = 0; i < this.count; i++) starts[this.cellOf(this.x[i], this.y[i]) + 1]++;
    for (let c = 0; c < CELLS * CELLS; c++) starts[c + 1] += starts[c];
    const next = starts.slice();
    const order = new Uint32Array(this.count);
    for (let i = 0; i < this.count; i++) order[next[this.cellOf(this.x[i], this.y[i])]++] = i;
    this.starts = starts;
    this.order = order;
  }

  fit() {
    const box = this.canvas.getBoundingClientRect();
    this.ratio = Math.min(window.devicePixelRatio || 1, 2);
    this.width = Math.max(1, Math.round(box.width * this.ratio));
    this.height = Math.max(1, Math.round(box.height * this.ratio));
    for (const canvas of [this.canvas, this.overlay]) {
      canvas.width = this.width;
      canvas.height = this.height;
    }
    this.context = this.canvas.getContext("2d", { alpha: false });
    this.image = this.context.createImageData(this.width, this.height);
    this.pixels = new Uint32Array(this.image.data.buffer);
    this.whole();
  }

  whole() {
    const { left, right, low, high } = this.box;
    this.scale = 0.92 * Math.min(this.width / (right - left), this.height / (high - low));
    this.left = this.width / 2 - (this.scale * (left + right)) / 2;
    this.top = this.height / 2 + (this.scale * (low + high)) / 2;
    this.least = this.scale / 2;
    this.draw();
  }

  screen(x, y) {
    return [this.left + x * this.scale, this.top - y * this.scale];
  }

  place(px, py) {
    return [(px - this.left) / this.scale, (this.top - py) / this.scale];
  }

  zoom(factor, px = this.width / 2, py = this.height / 2) {
    const scale = Math.min(Math.max(this.scale * factor, this.least), this.least * 400);
    const real = scale / this.scale;
    this.left = px - (px - this.left) * real;
    this.top = py - (py - this.top) * real;
    this.scale = scale;
    this.draw();
  }

  pan(dx, dy) {
    this.left += dx;
    this.top += dy;
    this.draw();
  }

  draw() {
    if (this.waiting) return;
    this.waiting = requestAnimationFrame(() => {
      this.waiting = 0;
      const began = performance.now();
      this.paint();
      this.frames.push(performance.now() - began);
      if (this.frames.length > 240) this.frames.shift();
      this.outline();
    });
  }

  paint() {
    const { pixels, width, height, x, y, scale, left, top, ratio } = this;
    pixels.fill(this.background);
    const grow = Math.min(2, Math.max(0, Math.log2(scale / this.least) / 4));
    for (let i = 0; i < this.count; i++) {
      if (!this.visible[i]) continue;
      const px = (left + x[i] * scale) | 0;
      const py = (top - y[i] * scale) | 0;
      const r = Math.round((this.size[i] + grow) * ratio * 0.75);
      if (px < r || py < r || px >= width - r || py >= height - r) continue;
      const colour = this.anyChosen && !this.chosen[i] ? this.faint[i] : this.colour[i];
      const round = r > 1 ? 1 : 0;
      for (let dy = -r; dy <= r; dy++) {
        const cut = round && (dy === -r || dy === r) ? 1 : 0;
        const row = (py + dy) * width + px;
        for (let at = row - r + cut, end = row + r - cut; at <= end; at++) pixels[at] = colour;
      }
    }
    this.context.putImageData(this.image, 0, 0);
  }

  // Colours of points that are not chosen while others are: half way to the background.
  setColours(colours, background) {
    this.background = background;
    this.colour = colours;
    this.faint = new Uint32Array(this.count);
    for (let i = 0; i < this.count; i++) {
      const c = colours[i];
      let mixed = 0xff000000;
      for (const shift of [0, 8, 16]) {
        const [a, b] = [(c >>> shift) & 255, (background >>> shift) & 255];
        mixed |= Math.round(a * 0.22 + b * 0.78) << shift;
      }
      this.faint[i] = mixed >>> 0;
    }
    this.draw();
  }

  outline() {
    const context = this.overlay.getContext("2d");
    context.clearRect(0, 0, this.width, this.height);
    const style = getComputedStyle(this.overlay);
    context.lineWidth = 2 * this.ratio;
    context.strokeStyle = style.getPropertyValue("--accent");
    if (this.shape && this.shape.length > 1) {
      context.beginPath();
      for (const [px, py] of this.shape) context.lineTo(px, py);
      context.closePath();
      context.stroke();
      context.globalAlpha = 0.08;
      context.fillStyle = style.getPropertyValue("--accent");
      context.fill();
      context.globalAlpha = 1;
    }
    for (const { x, y, text } of this.marks) {
      const [px, py] = this.screen(x, y);
      context.beginPath();
      context.arc(px, py, 9 * this.ratio, 0, 7);
      context.stroke();
      if (!text) continue;
      context.font = `600 ${12 * this.ratio}px system-ui, sans-serif`;
      context.fillStyle = style.getPropertyValue("--ink");
      context.fillText(text, px + 12 * this.ratio, py + 4 * this.ratio);
    }
  }

  // The nearest visible point within reach of a pixel, or -1; what is drawn last, and so on top, wins a tie.
  nearest(px, py) {
    const reach = (REACH * this.ratio) / this.scale;
    const [x, y] = this.place(px, py);
    const first = this.cellOf(x - reach, y - reach);
    const last = this.cellOf(x + reach, y + reach);
    let [best, least] = [-1, reach * reach];
    for (let column = Math.floor(first / CELLS); column <= Math.floor(last / CELLS); column++) {
      for (let row = first % CELLS; row <= last % CELLS; row++) {
        const cell = column * CELLS + row;
        for (let at = this.starts[cell]; at < this.starts[cell + 1]; at++) {
          const i = this.order[at];
          if (!this.visible[i]) continue;
          const apart = (this.x[i] - x) ** 2 + (this.y[i] - y) ** 2;
          if (apart < least || (apart === least && i > best)) [best, least] = [i, apart];
        }
      }
    }
    return best;
  }

  // Marks the visible points within a shape of pixels.
  choose(shape, add) {
    const edges = shape.map(([px, py]) => this.place(px, py));
    this.chooseWhere((i) => inside(this.x[i], this.y[i], edges), add);
  }

  chooseWhere(test, add = false) {
    let count = 0;
    for (let i = 0; i < this.count; i++) {
      this.chosen[i] = (add && this.chosen[i]) || (this.visible[i] && test(i)) ? 1 : 0;
      count += this.chosen[i];
    }
    this.anyChosen = count > 0;
    this.draw();
    return count;
  }
}

// Whether a point lies in a polygon: how often a ray to the right crosses its edges.
function inside(x, y, edges) {
  let within = false;
  for (let i = 0, j = edges.length - 1; i < edges.length; j = i++) {
    const [ax, ay] = edges[i];
    const [bx, by] = edges[j];
    if (ay > y !== by > y && x < ((bx - ax) * (y - ay)) / (by - ay) + ax) within = !within;
  }
  return within;
}
