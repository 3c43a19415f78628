// What the colours of a map mean: a list of kinds, each with its points, for the legend and the filter alike.

export const KINDS = ["record", "case", "reference"];
const TRUTHS = ["not known", "right", "wrong"];
const STEPS = 24; // of a scale

// "#rrggbb" or "rgb(r, g, b)" as a pixel, little-endian.
export function pixel(text) {
  const hex = /^#([0-9a-f]{6})$/i.exec(text.trim());
  const [r, g, b] = hex
    ? [0, 2, 4].map((at) => parseInt(hex[1].slice(at, at + 2), 16))
    : (text.match(/\d+/g) ?? [128, 128, 128]).map(Number);
  return (0xff000000 | (b << 16) | (g << 8) | r) >>> 0;
}

const css = (value) => `rgb(${value & 255}, ${(value >>> 8) & 255}, ${(value >>> 16) & 255})`;

function mix(from, to, share) {
  let made = 0xff000000;
  for (const shift of [0, 8, 16]) {
    const [a, b] = [(from >>> shift) & 255, (to >>> shift) & 255];
    made |= Math.round(a + (b - a) * share) << shift;
  }
  return made >>> 0;
}

// Colours of all points by what is asked for: {colours, legend: [{key, label, colour, test}] or a scale}.
export function colouring(by, { columns, count, header }, palette) {
  const { kind, truth, p_wrong: wrong, predicted, slice, time } = columns;
  const colours = new Uint32Array(count);
  const reference = palette.reference;
  if (by === "p_wrong" || by === "time") {
    const values = by === "time" ? time : wrong;
    let [low, high] = by === "time" ? [Infinity, -Infinity] : [0, 1];
    if (by === "time") {
      for (let i = 0; i < count; i++) {
        if (kind[i] === 2) continue;
        low = Math.min(low, time[i]);
        high = Math.max(high, time[i]);
      }
    }
    const scale = Array.from({ length: STEPS }, (_, s) => {
      const share = s / (STEPS - 1);
      return share < 0.5 ? mix(palette.low, palette.middle, share * 2) : mix(palette.middle, palette.high, share * 2 - 1);
    });
    for (let i = 0; i < count; i++) {
      const share = (values[i] - low) / (high - low || 1);
      const known = kind[i] !== 2 && Number.isFinite(share);
      colours[i] = known ? scale[Math.min(STEPS - 1, Math.max(0, Math.round(share * (STEPS - 1))))] : reference;
    }
    return { colours, groups: [], scale: { low, high, colours: scale.map(css), by } };
  }
  const group = {
    predicted: (i) => (kind[i] === 2 ? -2 : predicted[i]),
    truth: (i) => (kind[i] === 2 ? -2 : truth[i]),
    slice: (i) => (kind[i] === 2 ? -2 : slice[i]),
    kind: (i) => kind[i],
  }[by];
  const name = {
    predicted: (key) => (key < 0 ? "no class" : (header.classes[key] ?? `class ${key}`)),
    truth: (key) => TRUTHS[key],
    slice: (key) => (key < 0 ? "in no slice" : header.slices[key].words),
    kind: (key) => ["records", "cases", "reference"][key],
  }[by];
  const fixed = { truth: [palette.unknown, palette.good, palette.bad], kind: [palette.classes[0], palette.bad, reference] };
  const counts = new Map();
  const own = (key) => {
    if (key === -2) return reference;
    if (key < 0) return palette.unknown;
    return fixed[by] ? fixed[by][key] : palette.classes[key % palette.classes.length];
  };
  for (let i = 0; i < count; i++) {
    const key = group(i);
    counts.set(key, (counts.get(key) ?? 0) + 1);
    colours[i] = own(key);
  }
  const groups = [...counts.entries()]
    .sort(([a], [b]) => (a < 0 ? 1e6 - a : a) - (b < 0 ? 1e6 - b : b))
    .map(([key, points]) => ({ key, label: key === -2 ? "reference" : name(key), points, colour: css(own(key)), group }));
  return { colours, groups, scale: null };
}
