/** One message on the page: its text, what its reader may do with it, and how what they did stands. */

import { avatar, element, linked, nodeChip } from "./elements.js";
import { clock, full } from "./times.js";

/**
 * @typedef {object} Message as snapshots, history and `chat.message_posted` have it
 * @property {string} message_id
 * @property {number} sequence
 * @property {{id: string, name: string}} sender
 * @property {string} text
 * @property {string} sent_at
 * @property {string | null} [edited_at]
 * @property {boolean} [deleted]
 * @property {string} [node]
 */

/**
 * @typedef {object} Actions what the page does when it is asked to
 * @property {(id: string, text: string) => void} edit
 * @property {(id: string) => void} remove
 * @property {(key: string) => void} retry
 * @property {(key: string) => void} discard
 * @property {() => void} back where the keyboard goes when it is done here
 */

const WORDS = {
  "chat.post_message": { doing: "Sending…", failed: "Not sent", done: "sent" },
  "chat.edit_message": { doing: "Saving…", failed: "Not saved", done: "saved" },
  "chat.delete_message": { doing: "Deleting…", failed: "Not deleted", done: "deleted" },
};

export class MessageItem {
  /** @type {string} */
  id;
  sequence = 0;
  text = "";
  deleted = false;
  #actions;
  #line;
  #bubble;
  #delivery;
  #edited = element("span", "edited");
  #tools = element("span", "tools");
  /** @type {string} the key of what is shown as under way */
  #underWay = "";

  /**
   * @param {string} id
   * @param {{id: string, name: string}} sender
   * @param {boolean} mine
   * @param {Actions} actions
   */
  constructor(id, sender, mine, actions) {
    this.id = id;
    this.#actions = actions;
    const name = element("span", "sender", mine ? "You" : sender.name);
    const meta = element("p", "meta", name, " ", element("time", ""));
    this.#bubble = element("p", "bubble");
    // A tap shows the tools where nothing can hover.
    this.#bubble.tabIndex = -1;
    this.#line = element("div", "line", this.#bubble, this.#edited, this.#tools);
    this.#delivery = element("p", "delivery");
    this.node = element("li", "message", avatar(sender), element("div", "body", meta, this.#line, this.#delivery));
    this.node.classList.toggle("mine", mine);
    this.node.dataset.id = id;
    this.node.dataset.sender = sender.id;
    this.#offerTools(mine);
  }

  get pending() {
    return this.node.classList.contains("pending");
  }

  set pending(pending) {
    this.node.classList.toggle("pending", pending);
  }

  /** @param {Date} date */
  set at(date) {
    const time = this.node.querySelector("time");
    time.textContent = clock(date);
    time.dateTime = date.toISOString();
    time.title = full(date);
    this.node.dataset.at = date.toISOString();
  }

  /** Where it is in the stream, and which node took it. */
  place(sequence, node) {
    this.pending = false;
    this.sequence = sequence;
    this.node.dataset.sequence = String(sequence);
    if (!node) return;
    this.node.dataset.node = node;
    this.node.querySelector(".meta").append(" ", nodeChip(node));
  }

  /** @param {string} text @param {string | null} [editedAt] */
  write(text, editedAt = null) {
    if (this.deleted) return;
    this.text = text;
    this.#bubble.replaceChildren(...linked(text));
    this.#edited.textContent = editedAt ? "edited" : "";
    if (editedAt) this.#edited.title = full(new Date(editedAt));
  }

  /** Its text is gone for everybody; that there was one stays. */
  blank() {
    if (this.deleted) return;
    const here = this.node.contains(document.activeElement);
    this.deleted = true;
    this.text = "";
    this.node.classList.add("deleted");
    this.node.classList.remove("editing");
    this.#bubble.textContent = "Message deleted";
    this.#line.replaceChildren(this.#bubble);
    this.#delivery.replaceChildren();
    if (here) this.#actions.back();
  }

  /** How something that its reader asked for stands. @param {import("./outbox.js").Entry} entry */
  show(entry) {
    const ended = ["sent", "gone"].includes(entry.state);
    if (ended && this.#underWay !== entry.key) return;
    this.#underWay = ended ? "" : entry.key;
    this.#delivery.dataset.state = entry.state;
    this.#delivery.replaceChildren(...(this.deleted ? [] : this.#words(entry)));
  }

  /** Write over it, in its place. */
  edit() {
    if (this.deleted || this.pending || this.node.classList.contains("editing")) return;
    const box = element("textarea", "");
    box.value = this.text;
    box.maxLength = 4000;
    box.rows = 1;
    box.setAttribute("aria-label", "Edit message");
    const save = element("button", "", "Save");
    const cancel = element("button", "link", "Cancel");
    cancel.type = "button";
    const form = element("form", "edit", box, element("span", "buttons", save, cancel));
    const end = () => {
      this.node.classList.remove("editing");
      if (!this.deleted) this.#line.replaceChildren(this.#bubble, this.#edited, this.#tools);
      this.#actions.back();
    };
    const grow = () => {
      box.style.height = "auto";
      box.style.height = `${box.scrollHeight}px`;
    };
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const text = box.value.trim();
      if (!text) return;
      if (text !== this.text) this.#actions.edit(this.id, text);
      end();
    });
    box.addEventListener("input", grow);
    box.addEventListener("keydown", (event) => {
      if (event.key === "Escape") {
        event.stopPropagation();
        end();
      } else if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
        event.preventDefault();
        form.requestSubmit();
      }
    });
    cancel.addEventListener("click", end);
    this.node.classList.add("editing");
    this.#line.replaceChildren(form);
    grow();
    box.focus();
    box.setSelectionRange(box.value.length, box.value.length);
    form.scrollIntoView({ block: "nearest" });
  }

  #offerTools(mine) {
    const edit = tool("Edit", () => this.edit());
    const remove = tool("Delete", () => this.#ask());
    edit.classList.add("edit-tool");
    remove.classList.add("delete-tool");
    this.#tools.replaceChildren(...(mine ? [edit, remove] : [remove]));
  }

  /** A deletion cannot be taken back: ask once. */
  #ask() {
    const back = () => {
      if (this.deleted) return;
      this.#line.replaceChildren(this.#bubble, this.#edited, this.#tools);
      this.#tools.lastElementChild.focus();
    };
    const yes = tool("Delete", () => {
      back();
      this.#actions.remove(this.id);
      this.#actions.back();
    });
    const no = tool("Keep", back);
    const ask = element("span", "ask grave", element("span", "", "Delete for everybody?"), yes, no);
    ask.addEventListener("keydown", (event) => event.key === "Escape" && back());
    this.#line.replaceChildren(this.#bubble, ask);
    no.focus();
  }

  #words(entry) {
    const { doing, failed, done } = WORDS[entry.command];
    const discard = tool("Discard", () => this.#actions.discard(entry.key));
    if (entry.state === "sending") return [doing];
    if (entry.state === "waiting") {
      if (entry.open) return [entry.note ? `${entry.note} It is tried again in a moment.` : doing];
      return ["Waiting for the connection… ", discard];
    }
    if (entry.state === "unknown") {
      const when = entry.open ? "It is sent again now" : "It is sent again when the connection is back";
      return [`There was no answer: it may be ${done}, or not. ${when}, and counts once.`];
    }
    if (entry.state !== "failed") return [];
    const unsure = entry.tried && (entry.asNew || entry.ended);
    const line = element("span", "", `${unsure ? `Perhaps not ${done}` : failed}: ${entry.note}. `);
    line.setAttribute("role", "alert");
    if (entry.ended) return [line, discard];
    const retry = tool(entry.asNew ? "Send as new" : "Try again", () => this.#actions.retry(entry.key));
    return [line, retry, " ", discard];
  }
}

function tool(label, act) {
  const button = element("button", "link", label);
  button.type = "button";
  button.addEventListener("click", act);
  return button;
}
