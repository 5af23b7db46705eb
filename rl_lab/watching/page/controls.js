// The controls below the picture: what they send, and how they follow what is shown.

const byId = (id) => document.getElementById(id);

export class Controls {
  constructor(send) {
    this.send = send;
    this.view = null;
    byId("play").addEventListener("click", () => this.toggle());
    byId("step").addEventListener("click", () => send("step"));
    byId("back").addEventListener("click", () => this.seek(this.view.position - 1));
    byId("next").addEventListener("click", () => send("next"));
    byId("restart").addEventListener("click", () => send("restart", { seed: null }));
    byId("scrub").addEventListener("input", (event) => this.seek(Number(event.target.value)));
    byId("speed").addEventListener("change", (event) => send("speed", { factor: Number(event.target.value) }));
    byId("seeds").addEventListener("submit", (event) => {
      event.preventDefault();
      send("restart", { seed: Number(byId("seed").value) });
    });
    byId("pasts").addEventListener("submit", (event) => {
      event.preventDefault();
      send("past", { episode: byId("past").value });
    });
    byId("save").addEventListener("click", () => send("save"));
  }

  toggle() {
    if (this.view) this.send(this.view.playing ? "pause" : "play");
  }

  seek(step) {
    if (this.view) this.send("seek", { step: Math.max(0, Math.min(this.view.newest, step)) });
  }

  /** Do what a key stands for; return whether it stands for anything. */
  shortcut(key) {
    if (!this.view) return false;
    const meanings = {
      " ": () => this.toggle(),
      ArrowRight: () => this.send("step"),
      ArrowLeft: () => this.seek(this.view.position - 1),
      n: () => this.send("next"),
      r: () => this.send("restart", { seed: null }),
      t: () => this.send("take", { agent: 0 }),
      Escape: () => this.send("hand_back"),
    };
    meanings[key]?.();
    return key in meanings;
  }

  show(view) {
    this.view = view;
    const scrub = byId("scrub");
    scrub.max = String(view.newest);
    scrub.value = String(view.position);
    scrub.setAttribute("aria-valuetext", `step ${view.position} of ${view.newest}`);
    byId("position").textContent = `${view.position} / ${view.newest}`;
    const play = byId("play");
    play.querySelector("path").setAttribute("d", view.playing ? "M6 4h4v16H6zM14 4h4v16h-4z" : "M7 4l14 8-14 8z");
    play.lastElementChild.textContent = view.playing ? "Pause" : "Play";
    const speed = byId("speed");
    if (document.activeElement !== speed) speed.value = String(view.factor);
    const seed = byId("seed");
    if (document.activeElement !== seed) seed.value = String(view.seed);
    byId("save").hidden = view.played === 0;
    this.check(view);
  }

  check(view) {
    const note = byId("check");
    note.hidden = view.check === null;
    if (view.check === null) return;
    note.textContent = view.check.agrees
      ? `The replay returned ${view.check.replayed}, as in training.`
      : `The replay returned ${view.check.replayed}, training ${view.check.recorded}: this environment isn't deterministic.`;
  }
}
