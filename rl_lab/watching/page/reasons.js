// What each number of an observation contributed to the chosen action, as bars to both sides of nothing.

import { short } from "./numbers.js";
import { legend } from "./plot.js";

const MOST = 24; // numbers, those that matter most

export class Contributions {
  constructor(figure) {
    this.figure = figure;
    this.caption = figure.querySelector("figcaption");
    this.list = figure.querySelector("ol");
  }

  /** @param {{names: string[], contributions: number[], total: number, output: number}|null} given */
  show(given, names) {
    this.figure.hidden = !given;
    if (!given) return;
    this.caption.replaceChildren(
      `What speaks for ${names[given.output] ?? "this action"}`,
      legend("first", "for it"), legend("second", "against it"),
    );
    const largest = Math.max(...given.contributions.map(Math.abs)) || 1;
    const order = given.names.map((_, i) => i);
    if (order.length > MOST) {
      order.sort((a, b) => Math.abs(given.contributions[b]) - Math.abs(given.contributions[a]));
      order.length = MOST;
    }
    this.list.replaceChildren(...order.map((i) => row(given.names[i], given.contributions[i], largest)));
  }
}

function row(name, value, largest) {
  const item = document.createElement("li");
  item.dataset.value = String(value);
  item.innerHTML = '<span class="name"></span><span class="bar"><b></b></span><span class="number"></span>';
  item.querySelector(".name").textContent = item.querySelector(".name").title = name;
  const bar = item.querySelector("b");
  const reach = 50 * (1 - Math.abs(value) / largest);
  bar.classList.toggle("against", value < 0);
  bar.style.inset = value < 0 ? `0 50% 0 ${reach}%` : `0 ${reach}% 0 50%`;
  item.querySelector(".number").textContent = short(value);
  return item;
}
