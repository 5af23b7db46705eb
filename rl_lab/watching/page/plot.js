// Small plots on a canvas, in the colours of the page.

import { extent, short } from "./numbers.js";

export function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

/** Return what tells which colour is what. */
export function legend(colour, text) {
  const item = document.createElement("span");
  item.className = "legend";
  const mark = document.createElement("i");
  mark.style.background = `var(--${colour})`;
  item.append(mark, text);
  return item;
}

/** Return a 2D context in CSS pixels, with the canvas cleared, and its size. */
export function prepared(canvas) {
  const ratio = devicePixelRatio || 1;
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  context.font = "11px system-ui, sans-serif";
  return { context, width, height };
}

function padded([low, high]) {
  if (low === high) return [low - (Math.abs(low) || 1) * 0.5, high + (Math.abs(high) || 1) * 0.5];
  const margin = (high - low) * 0.06;
  return [low - margin, high + margin];
}

/** A frame with labelled ends; returns what maps data to pixels. */
function axes(surface, [left, right], range) {
  const { context, width, height } = surface;
  const [low, high] = padded(range);
  const labels = range[0] === range[1] ? [range[0]] : range;
  const margin = Math.max(40, ...labels.map((value) => Math.ceil(context.measureText(short(value)).width) + 10));
  const box = { x: margin, y: 6, width: width - margin - 8, height: height - 24 };
  context.strokeStyle = colour("edge");
  context.lineWidth = 1;
  context.strokeRect(box.x + 0.5, box.y + 0.5, box.width, box.height);
  context.fillStyle = colour("soft");
  context.textAlign = "right";
  context.textBaseline = "middle";
  const x = (value) => box.x + ((value - left) / Math.max(right - left, 1e-12)) * box.width;
  const y = (value) => box.y + box.height - ((value - low) / (high - low)) * box.height;
  for (const value of labels) context.fillText(short(value), box.x - 5, y(value));
  context.textBaseline = "top";
  context.textAlign = "left";
  context.fillText(short(left), box.x, box.y + box.height + 4);
  context.textAlign = "right";
  context.fillText(short(right), box.x + box.width, box.y + box.height + 4);
  return { x, y, box, low, high };
}

function stroke(context, points, { x, y }, style) {
  context.strokeStyle = style;
  context.lineWidth = 1.8;
  context.lineJoin = "round";
  context.beginPath();
  let open = false;
  for (const [at, value] of points) {
    if (value === null || value === undefined) { open = false; continue; }
    if (open) context.lineTo(x(at), y(value));
    else context.moveTo(x(at), y(value));
    open = true;
  }
  context.stroke();
}

/** Draw curves, each {points: [[x, y]], colour}; `mark` is an x to be marked, or null. Returns the scales, or null. */
export function drawLines(canvas, curves, mark = null) {
  const surface = prepared(canvas);
  const points = curves.flatMap((curve) => curve.points);
  const range = extent(points.map((point) => point[1]));
  const across = extent(points.map((point) => point[0]));
  if (!range || surface.width < 80) return null;
  const scales = axes(surface, [across[0], Math.max(across[1], across[0] + 1)], range);
  for (const curve of curves) stroke(surface.context, curve.points, scales, colour(curve.colour));
  for (const curve of curves.filter((one) => one.dots)) {
    surface.context.fillStyle = colour(curve.colour);
    for (const [at, value] of curve.points) {
      surface.context.beginPath();
      surface.context.arc(scales.x(at), scales.y(value), 2.6, 0, 7);
      surface.context.fill();
    }
  }
  if (mark !== null) {
    surface.context.fillStyle = colour("ink");
    surface.context.fillRect(scales.x(mark) - 0.5, scales.box.y, 1, scales.box.height);
  }
  return { ...scales, across };
}

/** Draw columns from zero, [[x, value]]; `marked` is the x of the one that stands out. */
export function drawColumns(canvas, columns, { marked = null, style = "first", ends = null } = {}) {
  const surface = prepared(canvas);
  const range = extent(columns.map((column) => column[1]));
  if (!range || surface.width < 80) return;
  const first = columns[0][0];
  const last = columns[columns.length - 1][0];
  const span = [Math.min(0, range[0]), Math.max(0, range[1])];
  const scales = axes(surface, ends ?? [first, Math.max(last, first + 1)], span);
  const step = scales.box.width / Math.max(columns.length - 1, 1);
  const width = Math.min(14, Math.max(1, step * 0.7));
  for (const [at, value] of columns) {
    if (value === null) continue;
    surface.context.fillStyle = colour(at === marked ? "second" : style);
    const top = scales.y(Math.max(value, 0));
    const x = Math.min(Math.max(scales.x(at) - width / 2, scales.box.x), scales.box.x + scales.box.width - width);
    surface.context.fillRect(x, top, width, Math.max(1, scales.y(Math.min(value, 0)) - top));
  }
}
