/**
 * Where people write: Enter sends, Shift+Enter begins a line, the up arrow in an empty box opens one's last
 * message, and an unsent draft survives a reload.
 */

const SHOW_LEFT = 200;
const MUTED = "A moderator has muted you: you can read, but not write.";

export class Composer {
  #form;
  #text;
  #left;
  #draftKey;
  #send;
  #placeholder;
  #muted = false;
  #note;

  /**
   * @param {HTMLFormElement} form
   * @param {string} draftKey
   * @param {{send: (text: string) => void, editLast: () => void}} actions
   */
  constructor(form, draftKey, { send, editLast }) {
    this.#form = form;
    this.#text = form.querySelector("textarea");
    this.#left = form.querySelector("#text-left");
    this.#note = form.querySelector("#composer-note");
    this.#draftKey = draftKey;
    this.#send = send;
    this.#placeholder = this.#text.placeholder;
    this.#text.value = this.#stored();
    this.#text.addEventListener("input", () => this.#changed());
    this.#text.addEventListener("keydown", (event) => {
      if (event.key === "ArrowUp" && !this.#text.value && !this.#muted) {
        event.preventDefault();
        editLast();
        return;
      }
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

  /** Whether its writer may say nothing for now; what is written stays. @param {boolean} muted */
  setMuted(muted) {
    this.#muted = muted;
    this.#text.placeholder = muted ? "" : this.#placeholder;
    this.#note.textContent = muted ? MUTED : "";
    this.#form.classList.toggle("muted", muted);
    this.#form.querySelector("button").disabled = muted;
  }

  /** Nothing can be said here any more; what was not sent stays to be copied. */
  close() {
    this.#form.classList.add("closed");
    this.#form.hidden = !this.#text.value.trim();
    this.#note.textContent = "This was not sent. It stays here for you to copy.";
    this.#text.readOnly = true;
    this.#form.querySelector("button").disabled = true;
    this.#muted = true;
  }

  #submit() {
    const text = this.#text.value.trim();
    if (text && !this.#muted) {
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
