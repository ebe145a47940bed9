/** Where people write: Enter sends, Shift+Enter begins a line, and an unsent draft survives a reload. */

const SHOW_LEFT = 200;

export class Composer {
  #form;
  #text;
  #left;
  #draftKey;
  #send;

  /** @param {HTMLFormElement} form @param {string} draftKey @param {(text: string) => void} send */
  constructor(form, draftKey, send) {
    this.#form = form;
    this.#text = form.querySelector("textarea");
    this.#left = form.querySelector("#text-left");
    this.#draftKey = draftKey;
    this.#send = send;
    this.#text.value = this.#stored();
    this.#text.addEventListener("input", () => this.#changed());
    this.#text.addEventListener("keydown", (event) => {
      // While an input method composes, Enter chooses a character.
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      form.requestSubmit();
    });
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
    this.#changed();
  }

  focus() {
    this.#text.focus();
  }

  #submit() {
    const text = this.#text.value.trim();
    if (text) {
      this.#send(text);
      this.#text.value = "";
      this.#changed();
    }
    this.#text.focus();
  }

  #changed() {
    const { value, maxLength } = this.#text;
    this.#text.style.height = "auto";
    this.#text.style.height = `${this.#text.scrollHeight}px`;
    this.#form.classList.toggle("empty", !value.trim());
    const left = maxLength - value.length;
    this.#left.textContent = left <= SHOW_LEFT ? `${left} characters left` : "";
    try {
      if (value) localStorage.setItem(this.#draftKey, value);
      else localStorage.removeItem(this.#draftKey);
    } catch {
      // Storage is forbidden or full: the draft lives as long as the page.
    }
  }

  #stored() {
    try {
      return localStorage.getItem(this.#draftKey) ?? "";
    } catch {
      return "";
    }
  }
}
