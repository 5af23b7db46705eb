// The value and the action of each cell, over the picture of a grid.

import { short } from "./numbers.js";

export class GridMap {
  constructor(element) {
    this.canvas = element.querySelector("canvas.map");
    this.picture = element.querySelector("canvas.picture");
    this.label = element.querySelector(".map-switch");
    this.box = element.querySelector(".show-map");
    this.box.addEventListener("change", () => this.draw());
  }

  /** @param {{values: (number|null)[][], arrows: (number[][])[][], area: number[]}} cells; area in shares of the picture */
  set(cells) {
    this.cells = cells;
    this.label.hidden = !cells;
    this.draw();
  }

  draw() {
    this.canvas.hidden = !this.cells || !this.box.checked;
    if (this.canvas.hidden) return;
    const { width, height } = this.picture;
    const scale = Math.max(1, Math.ceil(700 / Math.max(width, height)));
    this.canvas.width = width * scale;
    this.canvas.height = height * scale;
    this.canvas.style.width = this.picture.style.width;
    const context = this.canvas.getContext("2d");
    context.scale(scale, scale);
    const rows = this.cells.values.length;
    const columns = this.cells.values[0].length;
    const [x0, y0, w, h] = this.cells.area.map((share, i) => share * (i % 2 ? height : width));
    const known = this.cells.values.flat().filter((value) => value !== null);
    const low = Math.min(...known);
    const span = Math.max(...known) - low || 1;
    for (let r = 0; r < rows; r += 1) {
      for (let c = 0; c < columns; c += 1) {
        const value = this.cells.values[r][c];
        if (value === null) continue;
        const box = { x: x0 + (c * w) / columns, y: y0 + (r * h) / rows, w: w / columns, h: h / rows };
        cell(context, box, value, (value - low) / span, this.cells.arrows?.[r]?.[c] ?? []);
      }
    }
  }
}

function cell(context, box, value, share, arrows) {
  context.fillStyle = `hsl(${220 - 175 * share} 85% ${30 + 28 * share}% / 0.62)`;
  context.fillRect(box.x, box.y, box.w, box.h);
  context.strokeStyle = context.fillStyle = "#fff";
  context.shadowColor = "#000";
  context.shadowBlur = 3;
  context.lineWidth = Math.max(1, box.w * 0.035);
  const [x, y] = [box.x + box.w / 2, box.y + box.h / 2];
  for (const [dx, dy] of arrows) arrow(context, x, y, dx * box.w * 0.3, dy * box.h * 0.3);
  context.font = `${Math.max(7, box.w * 0.17)}px system-ui, sans-serif`;
  context.textAlign = "center";
  context.textBaseline = "bottom";
  context.fillText(short(value), x, box.y + box.h - 1);
  context.shadowBlur = 0;
}

function arrow(context, x, y, dx, dy) {
  const head = Math.hypot(dx, dy) * 0.4;
  const angle = Math.atan2(dy, dx);
  context.beginPath();
  context.moveTo(x - dx * 0.6, y - dy * 0.6);
  context.lineTo(x + dx, y + dy);
  for (const turn of [2.5, -2.5]) {
    context.moveTo(x + dx, y + dy);
    context.lineTo(x + dx + head * Math.cos(angle + turn), y + dy + head * Math.sin(angle + turn));
  }
  context.stroke();
}
