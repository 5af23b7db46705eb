// One agent: its picture, its figures, and its plots.

import { Bars } from "./bars.js";
import { GridMap } from "./map.js";
import { short } from "./numbers.js";
import { drawColumns, drawLines } from "./plot.js";
import { Contributions } from "./reasons.js";
import { Stage } from "./stage.js";

const ENDS = { terminated: "terminated", truncated: "time limit", cut: "cut off" };
const BY = { agent: "–", human: "you", record: "record", "": "–" };
const COLUMNS = 51; // of the distribution of a return, unless its atoms are evenly spaced
const REWARDS = 120; // columns at most

/** Whether atoms, in rising order, are evenly spaced, but for rounding. */
function even(atoms) {
  const gap = (atoms[atoms.length - 1] - atoms[0]) / (atoms.length - 1);
  return atoms.every((atom, i) => Math.abs(atom - atoms[0] - i * gap) < gap / 50);
}

/**
 * Gather probabilities in columns of equal width: one for each of evenly spaced atoms; quantiles, which are all as
 * probable, show by their density.
 */
function gathered(atoms, weights) {
  const lowest = Math.min(...atoms);
  const count = even(atoms) ? atoms.length : COLUMNS;
  const width = (Math.max(...atoms) - lowest) / (count - 1);
  if (!(width > 0)) return [[lowest, 1]];
  const columns = Array.from({ length: count }, (_, i) => [lowest + i * width, 0]);
  atoms.forEach((atom, i) => { columns[Math.round((atom - lowest) / width)][1] += weights[i]; });
  return columns;
}

export class Agent {
  constructor(about, index, { onSeek, onTake }) {
    this.about = about;
    this.index = index;
    this.rows = [];
    this.names = about.action_names;
    this.element = document.getElementById("agent").content.firstElementChild.cloneNode(true);
    this.element.setAttribute("aria-label", about.label);
    this.label = this.part("h2").textContent = about.label;
    this.stage = new Stage(this.part(".stage"), about.label);
    this.map = new GridMap(this.element);
    this.bars = new Bars(this.part(".bars"));
    this.contributions = new Contributions(this.part(".reasons"));
    this.take = this.part(".take");
    this.take.disabled = !about.keys.length;
    if (!about.keys.length) this.take.title = "These actions can't be given with keys";
    this.take.addEventListener("click", () => onTake(this.index));
    this.line = this.part(".line canvas");
    this.line.addEventListener("click", (event) => {
      if (!this.scales) return;
      const share = (event.offsetX - this.scales.box.x) / this.scales.box.width;
      const [first, last] = this.scales.across;
      onSeek(Math.round(first + Math.min(1, Math.max(0, share)) * (last - first)));
    });
  }

  part(selector) {
    return this.element.querySelector(selector);
  }

  show(view, lane, isNew) {
    if (isNew) {
      this.rows = [];
      this.bars.reset();
    }
    this.offset = this.rows.length ? this.offset : lane.from;
    this.rows.push(...lane.rows);
    this.lane = lane;
    this.element.dataset.step = String(lane.step);
    this.element.dataset.total = String(lane.total);
    this.stage.show(lane.blob, lane.picture);
    this.stage.end(lane.ended ? `Episode over: ${ENDS[lane.ended]}` : "");
    this.bars.show(lane.insight, this.names);
    this.contributions.show(lane.contributions, this.names);
    this.facts(lane);
    this.note(lane.note);
    const taken = view.human === this.index;
    this.take.textContent = taken ? "Hand back" : "Take over";
    this.take.classList.toggle("on", taken);
    this.take.setAttribute("aria-pressed", String(taken));
  }

  note(text) {
    const note = this.part(".agent-note");
    if (note.textContent !== text) note.textContent = text;
    note.hidden = !text;
  }

  facts(lane) {
    const { insight } = lane;
    const known = [
      ["Step", String(lane.step)],
      ["Reward", lane.reward === null ? "–" : short(lane.reward)],
      ["Return", short(lane.total)],
      ["Value", short(insight.value)],
      ["Carry norm", short(insight.carry_norm)],
      ["Regret", short(insight.regret)],
      ["Played by", BY[lane.by]],
    ];
    const shown = known.filter(([, text]) => text !== "–" || text === "Reward");
    const list = this.part(".facts");
    if (list.dataset.names !== shown.map((one) => one[0]).join()) {
      list.dataset.names = shown.map((one) => one[0]).join();
      list.replaceChildren(...shown.map(([name]) => {
        const pair = document.createElement("div");
        pair.append(document.createElement("dt"), document.createElement("dd"));
        pair.firstChild.textContent = name;
        pair.lastChild.dataset.name = name;
        return pair;
      }));
    }
    shown.forEach(([name, text], i) => {
      const cell = list.children[i].lastChild;
      cell.textContent = text;
      cell.classList.toggle("bad", name === "Regret" && insight.regret > 1e-9);
    });
  }

  /** Draw the plots; called once for each frame of the screen in which something changed. */
  plots() {
    if (!this.lane) return;
    const at = (column) => this.rows.map((row, i) => [this.offset + i, row[column]]);
    const values = at(1);
    const hasValue = values.some(([, value]) => value !== null && value !== undefined);
    this.caption(hasValue);
    const curves = [{ points: at(2), colour: "first" }];
    if (hasValue) curves.push({ points: values, colour: "second" });
    this.scales = drawLines(this.line, curves, this.lane.step);
    const end = Math.max(this.lane.step - this.offset + 1, 1);
    const rewards = at(0).slice(Math.max(0, end - REWARDS), end).filter(([, value]) => value !== null);
    this.part(".rewards").hidden = !rewards.length;
    if (rewards.length) drawColumns(this.part(".rewards canvas"), rewards, { marked: this.lane.step });
    this.attention();
    this.distribution();
    this.describe(hasValue);
  }

  caption(hasValue) {
    const caption = this.part(".line figcaption");
    if (caption.dataset.value === String(hasValue)) return;
    caption.dataset.value = String(hasValue);
    caption.innerHTML = hasValue
      ? '<span class="legend"><i></i>return so far</span><span class="legend"><i></i>value the agent expects</span>'
      : '<span class="legend"><i></i>return so far</span>';
    caption.querySelectorAll("i").forEach((mark, i) => { mark.style.background = `var(--${i ? "second" : "first"})`; });
  }

  attention() {
    const weights = this.lane.insight.attention;
    this.part(".attention").hidden = !weights?.length;
    if (!weights?.length) return;
    const columns = weights.map((weight, i) => [i - weights.length + 1, weight]);
    drawColumns(this.part(".attention canvas"), columns, { style: "second" });
  }

  distribution() {
    const given = this.lane.insight.distribution;
    this.part(".distribution").hidden = !given;
    if (!given) return;
    const chosen = [this.lane.insight.chosen].flat()[0] ?? 0;
    const atoms = given.atoms[chosen] ?? given.atoms[0];
    const weights = given.probabilities?.[chosen] ?? atoms.map(() => 1 / atoms.length);
    const columns = gathered(atoms, weights);
    const ends = [columns[0][0], columns[columns.length - 1][0]];
    drawColumns(this.part(".distribution canvas"), columns, ends[0] < ends[1] ? { ends } : {});
  }

  describe(hasValue) {
    const value = hasValue ? `, value ${short(this.lane.insight.value)}` : "";
    this.line.setAttribute("aria-label", `Return ${short(this.lane.total)}${value} at step ${this.lane.step}`);
    this.part(".rewards canvas").setAttribute("aria-label", `Reward of the last step: ${short(this.lane.reward)}`);
    this.part(".attention canvas").setAttribute("aria-label", "Attention over past steps");
    this.part(".distribution canvas").setAttribute("aria-label", "Distribution of the return of the chosen action");
  }
}
