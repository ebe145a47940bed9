/** The line that says how the connection stands, in words, and what can be done about it. */

export class ConnectionStatus {
  #bar;
  #text;
  #countdown;
  #action;
  #logInUrl;
  #timer = 0;
  #act = () => {};

  /** @param {HTMLElement} bar @param {string} logInUrl */
  constructor(bar, logInUrl) {
    this.#bar = bar;
    this.#text = bar.querySelector("#status-text");
    this.#countdown = bar.querySelector("#status-countdown");
    this.#action = bar.querySelector("#status-action");
    this.#logInUrl = logInUrl;
    this.#action.addEventListener("click", () => this.#act());
  }

  /** @param {import("./realtime_client.js").State} state @param {() => void} tryNow */
  show(state, tryNow) {
    clearInterval(this.#timer);
    this.#countdown.textContent = "";
    if (state.name === "connected") this.#connected(state.hello);
    else if (state.name === "waiting") {
      if (state.code === 1012) this.#say("wait", "Moving to another node. Reconnecting", "Try now", tryNow);
      else this.#say("bad", "Connection lost. Reconnecting", "Try now", tryNow);
      this.#countDown(state.retryAt);
    } else if (state.name === "offline") {
      this.#say("bad", "You are offline. The page reconnects by itself.", "Try now", tryNow);
    } else if (state.name === "stopped") this.#stopped(state);
    else this.#say("wait", state.attempt ? "Reconnecting…" : "Connecting…");
  }

  /** Something else that must be said. @param {string} text @param {string} [label] @param {() => void} [act] */
  warn(text, label, act) {
    this.#say("warn", text, label, act);
  }

  #connected(hello) {
    if (hello.bus_connected) this.#say("good", `Connected to ${hello.node}`);
    else {
      this.#say("warn", `Connected to ${hello.node}. Messages between nodes take a second for now.`);
    }
  }

  #stopped(state) {
    const reason = state.reason || `close code ${state.code}`;
    if ([4500, 4502, 4503, 4504].includes(state.code)) {
      this.#say("bad", `Disconnected: ${reason}.`, "Log in", () => location.assign(this.#logInUrl));
    } else this.#say("bad", `Disconnected: ${reason}.`, "Reload", () => location.reload());
  }

  #countDown(retryAt) {
    const show = () => {
      const seconds = Math.ceil((retryAt - Date.now()) / 1000);
      this.#countdown.textContent = seconds > 0 ? `in ${seconds} s` : "now";
    };
    show();
    this.#timer = setInterval(show, 250);
  }

  #say(tone, text, label = "", act = () => {}) {
    this.#bar.dataset.tone = tone;
    if (this.#text.textContent !== text) this.#text.textContent = text;
    this.#action.hidden = !label;
    this.#action.textContent = label;
    this.#act = act;
  }
}
