// The controls below the picture: what they send, and how they follow what is shown.

const byId = (id) => document.getElementById(id);

export class Controls {
  constructor(send) {
    this.send = send;
    this.view = null;
    this.person = 0; // whose place is taken with a key
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
    byId("pick").addEventListener("change", () => {
      const needsNumber = ["", "every:"].includes(byId("pick").value);
      byId("pick-number").hidden = !needsNumber;
      byId("past").min = byId("pick").value === "every:" ? "1" : "0";
      if (byId("pick").value === "every:" && Number(byId("past").value) < 1) byId("past").value = "10";
    });
    byId("pasts").addEventListener("submit", (event) => {
      event.preventDefault();
      const number = byId("pick-number").hidden ? "" : String(Number(byId("past").value));
      send("past", { episode: byId("pick").value + number });
    });
    byId("reasons").addEventListener("change", (event) => send("reasons", { method: event.target.value }));
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
      t: () => this.send("take", { agent: this.person }),
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
    const reasons = byId("reasons");
    if (document.activeElement !== reasons) reasons.value = view.reasons;
    byId("save").hidden = view.played === 0;
    this.check(view);
  }

  /** Offer the ways in which reasons of decisions can be found. */
  offer(methods) {
    const names = {
      gradient: "pixels, by gradients", perturbation: "pixels, by perturbation", contributions: "numbers",
    };
    byId("reasons-choice").hidden = !methods.length;
    byId("reasons").append(...methods.map((method) => new Option(names[method] ?? method, method)));
  }

  check(view) {
    const note = byId("check");
    note.hidden = view.past === null;
    if (view.past === null) return;
    const past = view.past;
    const some = past.of > 1 ? ` (${past.place + 1} of ${past.of})` : "";
    const then = `Training episode ${past.row}${some} returned ${past.return} in ${past.length} steps, when the run had`
      + ` taken ${past.env_steps.toLocaleString("en")}. Actions are those of then, values those of the policy that is watched.`;
    const text = view.check === null ? then : `${view.check.text}.`;
    if (note.textContent !== text) note.textContent = text;
    note.classList.toggle("bad", view.check?.agrees === false);
  }
}
