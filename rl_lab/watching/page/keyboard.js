// Keys and buttons with which a human acts, and the shortcuts of the controls.

const ARROWS = { ArrowLeft: "←", ArrowRight: "→", ArrowUp: "↑", ArrowDown: "↓", " ": "space" };

export class Keyboard {
  /** @param {{press: Function, release: Function, shortcut: Function}} actions */
  constructor(actions) {
    this.actions = actions;
    this.byKey = new Map();
    this.taken = null;
    this.held = null;
    addEventListener("keydown", (event) => this.down(event));
    addEventListener("keyup", (event) => this.up(event));
    addEventListener("blur", () => this.release());
  }

  /** Act in the place of an agent, or of nobody (null). */
  take(agent) {
    if (agent === this.taken) return;
    this.taken = agent;
    this.held = null;
    this.byKey = new Map();
    document.querySelectorAll(".keys").forEach((group) => { group.hidden = true; group.replaceChildren(); });
    if (!agent) return;
    const group = agent.part(".keys");
    group.hidden = false;
    const first = agent.about.keys[0][0];
    for (const [action, keys] of agent.about.keys) {
      for (const key of keys) this.byKey.set(key, action);
      group.append(this.button(action, agent.names[action - first] ?? String(action), keys));
    }
  }

  button(action, name, keys) {
    const button = document.createElement("button");
    button.textContent = name;
    button.dataset.action = String(action);
    const key = document.createElement("kbd");
    key.textContent = keys.map((one) => ARROWS[one] ?? one).join(" ");
    button.append(key);
    button.addEventListener("pointerdown", (event) => { event.preventDefault(); this.push(button, action); });
    for (const end of ["pointerup", "pointerleave", "pointercancel"]) button.addEventListener(end, () => this.release());
    button.addEventListener("click", (event) => {
      if (event.detail === 0) { this.push(button, action); this.release(); } // from the keyboard or a screen reader
    });
    return button;
  }

  /** Disable the buttons of these actions. They keep the focus, and take a pointer that is lifted from them. */
  forbid(actions) {
    document.querySelectorAll(".keys button").forEach((button) => {
      const told = String(actions.includes(Number(button.dataset.action)));
      if (button.ariaDisabled !== told) button.ariaDisabled = told;
    });
  }

  push(button, action) {
    if (button.ariaDisabled !== "true") this.press(action);
  }

  press(action) {
    if (this.held === action) return;
    this.held = action;
    this.mark();
    this.actions.press(action);
  }

  release() {
    if (this.held === null) return;
    this.held = null;
    this.mark();
    this.actions.release();
  }

  mark() {
    document.querySelectorAll(".keys button").forEach((button) => {
      button.classList.toggle("held", button.dataset.action === String(this.held));
    });
  }

  down(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.matches("input:not([type=range]), select, textarea")) return;
    if (this.taken && this.byKey.has(event.key)) {
      event.preventDefault();
      if (!event.repeat) this.press(this.byKey.get(event.key));
      return;
    }
    const onControl = event.target.matches("button, input, summary");
    if (onControl && [" ", "Enter", "ArrowLeft", "ArrowRight"].includes(event.key)) return;
    if (this.actions.shortcut(event.key)) event.preventDefault();
  }

  up(event) {
    if (this.byKey.get(event.key) === this.held) this.release();
  }
}
