// What each action is worth to the agent, as bars, with the exact optimum beside it where it is known.

import { extent, short } from "./numbers.js";
import { legend } from "./plot.js";

const KINDS = { q_values: "Q-values", probabilities: "Probabilities of the actions" };
const LEGENDS = { q_values: ["learned", "exact optimum"], probabilities: ["probability", "exact Q-value"] };

export class Bars {
  constructor(figure) {
    this.figure = figure;
    this.caption = figure.querySelector("figcaption");
    this.list = figure.querySelector("ol");
    this.rows = [];
    this.shown = "";
    this.seen = null;
  }

  /** Forget the range of the values of earlier episodes. */
  reset() {
    this.seen = null;
  }

  show(insight, names) {
    const values = insight.values ?? [];
    this.figure.hidden = !values.length;
    if (!values.length) return;
    const exact = insight.optimal ?? null;
    this.build(values.length, insight.kind, exact !== null, names);
    const scales = this.scales(insight, exact);
    const chosen = [insight.chosen].flat();
    values.forEach((value, i) => this.fill(this.rows[i], value, exact?.[i], scales, chosen.includes(i)));
  }

  build(count, kind, exact, names) {
    const wanted = `${count} ${kind} ${exact} ${names}`;
    if (wanted === this.shown) return;
    this.shown = wanted;
    this.caption.replaceChildren(KINDS[kind] ?? "Actions");
    if (exact) {
      const [mine, best] = LEGENDS[kind] ?? LEGENDS.q_values;
      this.best = legend("optimum", best);
      this.caption.append(legend("first", mine), this.best);
    }
    this.rows = Array.from({ length: count }, (_, i) => row(names[i] ?? String(i), exact));
    this.list.replaceChildren(...this.rows.map((one) => one.item));
  }

  /** Return how values and exact values become lengths: on one scale, unless the values are probabilities. */
  scales(insight, exact) {
    const likely = insight.kind === "probabilities";
    const now = extent([...(likely ? [] : insight.values), ...(exact ?? [])]);
    if (now) this.seen = this.seen ? [Math.min(now[0], this.seen[0]), Math.max(now[1], this.seen[1])] : now;
    const [low, high] = this.seen ?? [0, 1];
    if (likely && exact) this.best.lastChild.textContent = `${LEGENDS.probabilities[1]}, bars from ${short(low)} to ${short(high)}`;
    const span = high - low || 1;
    const spread = (value) => 0.04 + (0.96 * (value - low)) / span; // the lowest keeps a stump that can be seen
    return { value: likely ? (value) => value : spread, exact: spread };
  }

  fill(parts, value, exact, scales, isChosen) {
    const legal = value !== null;
    parts.item.classList.toggle("chosen", isChosen);
    parts.item.classList.toggle("illegal", !legal);
    parts.item.dataset.value = String(value);
    if (isChosen) parts.item.setAttribute("aria-current", "true");
    else parts.item.removeAttribute("aria-current");
    parts.bar.style.transform = `scaleX(${legal ? Math.max(0, Math.min(1, scales.value(value))) : 0})`;
    parts.value.textContent = legal ? short(value) : "illegal";
    if (parts.exact && exact !== undefined) {
      parts.exact.style.transform = `scaleX(${exact === null ? 0 : Math.max(0, Math.min(1, scales.exact(exact)))})`;
      parts.exactValue.textContent = short(exact);
      parts.item.dataset.exact = String(exact);
    }
  }
}

function row(name, exact) {
  const item = document.createElement("li");
  item.innerHTML =
    '<span class="name"></span><span class="bar"><span><b></b></span></span><span class="number"><span></span></span>';
  item.querySelector(".name").textContent = name;
  item.querySelector(".name").title = name;
  const parts = { item, bar: item.querySelector("b"), value: item.querySelector(".number span") };
  if (exact) {
    const track = document.createElement("span");
    track.className = "exact";
    parts.exact = document.createElement("b");
    track.append(parts.exact);
    item.querySelector(".bar").append(track);
    parts.exactValue = document.createElement("small");
    item.querySelector(".number").append(parts.exactValue);
  }
  return parts;
}
