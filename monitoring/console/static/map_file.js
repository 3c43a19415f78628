// The points of a map as they travel: a header in JSON, then columns that are read in place (docs/guides/console.md).

const ARRAYS = {
  uint64: BigUint64Array,
  float64: Float64Array,
  float32: Float32Array,
  int16: Int16Array,
  uint8: Uint8Array,
};

export function readPoints(buffer) {
  const bytes = new Uint8Array(buffer);
  if (String.fromCharCode(...bytes.subarray(0, 4)) !== "HCM1") throw new Error("this is no file of points");
  const room = new DataView(buffer).getUint32(4, true);
  const header = JSON.parse(new TextDecoder().decode(bytes.subarray(8, 8 + room)));
  const columns = {};
  for (const { name, type, offset } of header.columns) columns[name] = new ARRAYS[type](buffer, offset, header.count);
  return { header, columns, count: header.count };
}

export const caseId = (id) => id.toString(16).padStart(16, "0");
