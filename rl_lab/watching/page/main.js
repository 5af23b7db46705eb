// The live page: it shows what the server sends, and sends what is asked of it.

import { Agent } from "./agent.js";
import { Connection } from "./connection.js";
import { Controls } from "./controls.js";
import { Keyboard } from "./keyboard.js";
import { drawLines, legend } from "./plot.js";

const byId = (id) => document.getElementById(id);
const send = (type, fields) => connection.send(type, fields);
const controls = new Controls(send);
const keyboard = new Keyboard({
  press: (action) => send("press", { action }),
  release: () => send("release"),
  shortcut: (key) => controls.shortcut(key),
});
const curves = new Map();
let agents = [];
let episode = null;
let latest = null;
let drawing = false;
let failed = false;

function begin(hello) {
  document.title = `${hello.env_id} · watching`;
  byId("title").textContent = hello.env_id;
  agents = hello.agents.map((about, index) => new Agent(about, index, {
    onSeek: (step) => controls.seek(step),
    onTake: (which) => (latest?.human === which ? send("hand_back") : send("take", { agent: which })),
  }));
  byId("agents").classList.toggle("two", agents.length > 1);
  byId("agents").replaceChildren(...agents.map((agent) => agent.element));
  byId("pasts").hidden = !hello.past_episodes;
  controls.offer([...new Set(hello.agents.flatMap((about) => about.reasons))]);
  controls.person = Math.max(0, hello.agents.findIndex((about) => about.human));
  look();
}

function show(view) {
  const isNew = view.episode_id !== episode;
  episode = view.episode_id;
  latest = view;
  agents.forEach((agent, i) => agent.show(view, view.lanes[i], isNew));
  controls.show(view);
  keyboard.take(view.human === null ? null : agents[view.human]);
  keyboard.forbid(view.illegal);
  const which = view.past === null ? `episode ${view.episode} of seed ${view.seed}` : `training episode ${view.past.row}`;
  byId("where").textContent = which;
  status(view);
  document.documentElement.dataset.ready = "";
  plotSoon();
}

function status(view) {
  const you = view.human === null ? "" : "you play · ";
  const text = !view.playing ? "paused" : view.waiting ? "waiting for a key" : "playing";
  if (byId("status").textContent !== you + text) byId("status").textContent = you + text;
}

function plotSoon() {
  if (drawing) return;
  drawing = true;
  requestAnimationFrame(() => {
    drawing = false;
    agents.forEach((agent) => agent.plots());
  });
}

function plotTraining() {
  const lines = [];
  for (const [agent, notice] of curves) {
    const whose = agents.length > 1 ? `${agents[agent].label}: ` : "";
    lines.push({ points: notice.curves.training, colour: agent ? "second" : "first", name: `${whose}training episodes` });
    lines.push({ points: notice.curves.evaluation, colour: agent ? "bad" : "optimum", dots: true, name: `${whose}evaluations` });
  }
  const shown = lines.filter((line) => line.points.length);
  byId("legend").replaceChildren(...shown.map((line) => legend(line.colour, line.name)));
  byId("training").hidden = !shown.length;
  if (!byId("training").hidden) drawLines(byId("curves"), lines);
}

function toast(text) {
  const element = byId("toast");
  element.textContent = text;
  element.classList.add("shown");
  clearTimeout(toast.timer);
  toast.timer = setTimeout(() => element.classList.remove("shown"), 6000);
}

function banner(text) {
  byId("banner").textContent = text;
  byId("banner").hidden = false;
}

const texts = {
  hello: begin,
  error: (message) => toast(message.text),
  done: (message) => toast(message.text),
  failed: (message) => { failed = true; banner(message.text); },
  curves: (message) => {
    curves.set(message.agent, message);
    byId("followed").textContent = `Training has taken ${message.env_steps.toLocaleString("en")} steps.`;
    plotTraining();
  },
  checkpoint: (message) => toast(`A newer checkpoint (step ${message.env_steps.toLocaleString("en")}) acts from the next episode on.`),
  gentle: (message) => { byId("gentle").hidden = !message.text; byId("gentle").textContent = message.text; },
  map: (message) => agents[message.agent]?.map.set(message.cells),
};

function ended() {
  if (!failed) banner("The server has ended. What you see is the last it sent; start it again and reload the page.");
  byId("status").textContent = "ended";
  byId("status").classList.add("bad");
  document.querySelectorAll("button, input, select").forEach((control) => { control.disabled = true; });
}

const connection = new Connection({
  onView: show,
  onText: (message) => texts[message.type.split(" ")[0]]?.(message),
  onEnd: ended,
});

/** Nothing is played for pages that nobody sees. */
function look() {
  send("look", { seen: !document.hidden });
}

document.addEventListener("visibilitychange", look);
addEventListener("resize", () => { plotSoon(); plotTraining(); });
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { plotSoon(); plotTraining(); });
