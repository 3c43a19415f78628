// An image file as the tensor that a model takes: decoded, turned upright and resized by the browser, then put into the
// layout and the range of values of the signature. What was done is said, because it decides what the model sees.

export async function readImage(file) {
  return createImageBitmap(file, { imageOrientation: "from-image" });
}

// {data: typed array, shape, note, canvas} for an input {shape, layout, low, high, datatype}
export function toTensor(bitmap, spec) {
  const layout = spec.layout;
  const inner = spec.shape.slice(-layout.length);
  const size = (axis) => inner[layout.indexOf(axis)];
  const height = size("H") > 0 ? size("H") : bitmap.height;
  const width = size("W") > 0 ? size("W") : bitmap.width;
  const channels = layout.includes("C") ? (size("C") > 0 ? size("C") : 3) : 1;
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillStyle = "#fff"; // behind what is transparent
  context.fillRect(0, 0, width, height);
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, width, height);
  const pixels = context.getImageData(0, 0, width, height).data;
  const whole = !/^(FP|BF)/.test(spec.datatype);
  const data = whole ? new Array(width * height * channels) : new Float32Array(width * height * channels);
  const step = (spec.high - spec.low) / 255;
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const from = 4 * (y * width + x);
      const grey = 0.299 * pixels[from] + 0.587 * pixels[from + 1] + 0.114 * pixels[from + 2];
      for (let c = 0; c < channels; c++) {
        const level = spec.low + step * (channels === 1 ? grey : c === 3 ? 255 : pixels[from + c]);
        const to = layout === "CHW" ? (c * height + y) * width + x : (y * width + x) * channels + c;
        data[to] = whole ? Math.round(level) : level;
      }
    }
  }
  const stretched = Math.abs(bitmap.width / bitmap.height - width / height) > 0.01;
  const note = [
    `${bitmap.width} × ${bitmap.height} pixels, resized to ${width} × ${height}${stretched ? " (the aspect ratio is lost)" : ""}`,
    channels === 1 ? "turned grey" : `${channels} channels`,
    `values from ${spec.low} to ${spec.high}`,
  ].join("; ");
  const lead = spec.shape.slice(0, spec.shape.length - layout.length).map(() => 1);
  const own = [...layout].map((axis) => ({ C: channels, H: height, W: width })[axis]);
  return { data: Array.from(data), shape: [...lead, ...own], note, canvas };
}

export function toBase64(bytes) {
  let text = "";
  for (let at = 0; at < bytes.length; at += 0x8000) text += String.fromCharCode(...bytes.subarray(at, at + 0x8000));
  return btoa(text);
}
