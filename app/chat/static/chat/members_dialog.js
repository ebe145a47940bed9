/**
 * Who belongs to the room, and for those with the right what can be done about it.
 *
 * The list is asked for when it is opened, and kept up by the room's events. What is asked for here is done by a
 * command, and shown when its event comes.
 */

import { newKey } from "./keys.js";
import { isLastOwner, mayLeave, moderates, rightsOver } from "./member_rights.js";
import { memberRow } from "./member_row.js";
import { backOff } from "./reconnect.js";

/** Answers after which the same command is sent again, with its key: it is done once. */
const AGAIN = ["busy", "rate_limited", "unknown", "timeout", "connection_lost", "not_connected"];
const ATTEMPTS = 8;
const RANKS = ["owner", "moderator", "member", null, "banned"];

/** @typedef {import("./member_rights.js").Member} Member */

export class MembersDialog {
  #client;
  #room;
  #isPublic;
  #dialog;
  #here;
  #parts;
  /** @type {Map<string, Member>} */
  #members = new Map();
  #count = 0;
  /** @type {Member} */
  #me;
  #loading = false;
  /** Something happened while the list was on its way, or it did not come. */
  #stale = true;
  /** @type {{id: string, asked: import("./member_row.js").Asked} | null} */
  #asking = null;
  /** @type {Set<string>} people about whom something is under way */
  #busy = new Set();
  /** @type {Map<string, {node: HTMLElement, of: string}>} rows, and what they were made of */
  #rows = new Map();
  /** Whether its reader has asked to leave the room. */
  leaving = false;

  /**
   * @param {import("./realtime_client.js").RealtimeClient} client
   * @param {{room: string, isPublic: boolean, me: string}} about
   * @param {HTMLDialogElement} dialog
   * @param {() => {id: string, name: string, guest: boolean}[]} here who is in the room now
   */
  constructor(client, { room, isPublic, me }, dialog, here) {
    this.#client = client;
    this.#room = room;
    this.#isPublic = isPublic;
    this.#dialog = dialog;
    this.#here = here;
    this.#me = { id: me, name: "", guest: false, role: null, muted: false };
    const part = (name) => dialog.querySelector(`#${name}`);
    this.#parts = {
      list: part("members-list"),
      more: part("members-more"),
      note: part("members-note"),
      add: part("add-member"),
      name: part("add-name"),
      leave: part("leave-room"),
      stay: part("leave-ask"),
      onlyOwner: part("only-owner"),
    };
    dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
    dialog.addEventListener("keydown", (event) => {
      if (event.key !== "Escape" || (!this.#asking && this.#parts.stay.hidden)) return;
      event.preventDefault(); // it is the question that is closed, not the dialog
      if (this.#asking) this.#ask(this.#asking.id, null);
      else this.#askLeave(false);
    });
    dialog.addEventListener("close", () => this.#askLeave(false));
    part("members-close").addEventListener("click", () => dialog.close());
    this.#parts.add.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#add(this.#parts.name.value.trim());
    });
    this.#parts.leave.addEventListener("click", () => this.#askLeave(true));
    part("leave-no").addEventListener("click", () => this.#askLeave(false));
    part("leave-yes").addEventListener("click", () => this.#leave());
  }

  open() {
    this.#asking = null;
    this.#say("");
    this.#stale = true;
    this.render();
    this.#dialog.showModal();
    this.#load();
  }

  /** The room has ended for its reader. */
  end() {
    this.#dialog.close();
  }

  /** What its reader may do has changed. @param {{role: import("./member_rights.js").Role, muted: boolean}} rights */
  set rights({ role, muted }) {
    const before = this.#me.role;
    this.#me = { ...this.#me, role, muted };
    // Moderators are told more.
    if (moderates(role) !== moderates(before)) this.#stale = true;
    this.refresh();
  }

  /** The connection is back. @param {boolean} anew with a snapshot: what happened meanwhile was not told */
  back(anew) {
    if (anew) this.#stale = true;
    this.refresh();
  }

  /** @param {{person: string, person_name: string, role: import("./member_rights.js").Role, muted: boolean}} change */
  changed({ person, person_name: name, role, muted }) {
    const known = this.#members.get(person) ?? this.#present(person);
    const member = { id: person, name: name || known?.name || "", guest: !person.startsWith("u"), role, muted };
    if (role || muted) this.#put(member);
    else this.#drop(person);
  }

  /** @param {{person: string, person_name: string, banned: boolean}} removal */
  removed({ person, person_name, banned }) {
    if (banned) this.changed({ person, person_name, role: "banned", muted: false });
    else this.#drop(person);
  }

  /** Ask for the list again where it is not as it should be. */
  refresh() {
    if (!this.#dialog.open) return;
    this.render();
    if (this.#stale) this.#load();
  }

  /** Show who is there now, too. */
  render() {
    const { list, more, add, leave, onlyOwner } = this.#parts;
    const shown = this.#shown();
    const owners = shown.filter(({ role, guest }) => role === "owner" && !guest).map(({ id }) => id);
    const focus = this.#focused();
    const nodes = shown.map((member) => this.#row(member, owners));
    const ids = new Set(shown.map(({ id }) => id));
    for (const id of this.#rows.keys()) if (!ids.has(id)) this.#rows.delete(id);
    if (nodes.length !== list.children.length || nodes.some((node, place) => node !== list.children[place])) {
      list.replaceChildren(...nodes);
      this.#refocus(focus);
    }
    const unnamed = this.#count - this.#members.size;
    more.hidden = unnamed <= 0;
    more.textContent = `and ${unnamed} more: find them by their name`;
    add.hidden = !moderates(this.#me.role);
    leave.hidden = !mayLeave(this.#me, owners) || !this.#parts.stay.hidden;
    onlyOwner.hidden = !isLastOwner(this.#me, owners);
  }

  #shown() {
    const shown = new Map(this.#members);
    if (moderates(this.#me.role)) {
      for (const { id, name, guest } of this.#here()) {
        if (!shown.has(id)) shown.set(id, { id, name, guest, role: null, muted: false });
      }
    }
    const rank = ({ role }) => RANKS.indexOf(role);
    return [...shown.values()]
      .map((member) => (member.name ? member : { ...member, name: this.#present(member.id)?.name ?? "" }))
      .filter(({ role }) => moderates(this.#me.role) || (role && role !== "banned"))
      .sort((one, other) => rank(one) - rank(other) || one.name.localeCompare(other.name));
  }

  #row(member, owners) {
    const rights = rightsOver(this.#me, member, { isPublic: this.#isPublic, owners });
    const asked = this.#asking?.id === member.id && (rights.remove || rights.roles.length);
    const state = {
      myself: member.id === this.#me.id,
      isPublic: this.#isPublic,
      rights,
      asked: asked ? this.#asking.asked : undefined,
      busy: this.#busy.has(member.id),
    };
    const of = JSON.stringify([member, state]);
    const kept = this.#rows.get(member.id);
    if (kept?.of === of) return kept.node;
    const { id, role, muted } = member;
    const node = memberRow(member, state, {
      ask: (asked) => this.#ask(id, asked),
      setRole: (to) => this.#set(member, { role: to, muted }),
      mute: (to) => this.#set(member, { role, muted: to }),
      remove: () => this.#change(member, "chat.remove_member", { person: id }),
      ban: () => this.#set(member, { role: "banned", muted: false }),
    });
    node.dataset.id = id;
    this.#rows.set(id, { node, of });
    return node;
  }

  #ask(id, asked) {
    const before = this.#asking;
    this.#asking = asked && { id, asked };
    this.render();
    const focus = asked ? (asked.what === "role" ? "role" : "no") : before?.asked.what;
    this.#refocus({ id, action: focus });
  }

  #set(member, change) {
    return this.#change(member, "chat.set_member", { person: member.id, ...change });
  }

  /** @returns {Promise<boolean>} whether it was done */
  async #change({ id, name }, command, data) {
    this.#asking = null;
    this.#busy.add(id);
    this.#say("");
    this.render();
    try {
      await this.#surely(command, data);
      return true;
    } catch (error) {
      this.#say(`${name || "This"}: ${error.message}. Nothing was changed.`, true);
      return false;
    } finally {
      this.#busy.delete(id);
      this.render();
    }
  }

  /** Add somebody who is here, or whose account has this name. */
  async #add(name) {
    if (!name) return;
    const button = this.#parts.add.querySelector("button");
    button.disabled = true;
    this.#say("");
    try {
      const member = this.#guestHere(name) ?? (await this.#find(name));
      if (member.role === "banned") this.#say(`${member.name} is banned here: lift the ban first.`, true);
      else if (member.role) this.#say(`${member.name} is here already, as ${member.role}.`);
      else if (await this.#set(member, { role: "member", muted: member.muted })) {
        this.#say(`${member.name} is a member now.`);
        this.#parts.name.value = "";
      }
    } catch (error) {
      this.#say(error.code === "not_found" ? this.#nobody(name) : `${error.message}. Nothing was changed.`, true);
    } finally {
      button.disabled = false;
      this.#parts.name.focus();
    }
  }

  #find(name) {
    return this.#client.command("chat.find_person", { room: this.#room, name });
  }

  /** A guest has no account to be found by; accounts' names are nobody else's. */
  #guestHere(name) {
    const called = (member) => member.guest && member.name.toLowerCase() === name.toLowerCase();
    const found = this.#shown().filter(called);
    return found.length === 1 ? found[0] : undefined;
  }

  #nobody(name) {
    const guests = this.#isPublic ? "Guests are added while they are here." : "Guests cannot be added: they have none.";
    return `No account is called “${name}”. ${guests}`;
  }

  async #leave() {
    this.leaving = true;
    const yes = this.#dialog.querySelector("#leave-yes");
    yes.disabled = true;
    try {
      await this.#surely("chat.remove_member", { person: this.#me.id });
    } catch (error) {
      this.leaving = false;
      this.#askLeave(false);
      this.#say(`${error.message}. You are still a member.`, true);
    } finally {
      yes.disabled = false;
    }
  }

  #askLeave(asking) {
    const { leave, stay } = this.#parts;
    const was = !stay.hidden;
    stay.hidden = !asking;
    this.render();
    if (asking) this.#dialog.querySelector("#leave-no").focus();
    else if (was) leave.focus();
  }

  /** Have it done once, however often it has to be sent. */
  async #surely(command, data) {
    const key = newKey(this.#client.now());
    for (let attempt = 1; ; attempt += 1) {
      try {
        return await this.#client.command(command, { room: this.#room, key, ...data });
      } catch (error) {
        if (!AGAIN.includes(error.code) || attempt === ATTEMPTS) throw error;
        const seconds = error.retryAfter ?? 0.25 + backOff(attempt);
        await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
      }
    }
  }

  async #load() {
    if (this.#loading) return;
    this.#loading = true;
    try {
      while (this.#stale) {
        this.#stale = false;
        const { members, count } = await this.#client.command("chat.members", { room: this.#room });
        this.#members = new Map(members.map((member) => [member.id, member]));
        this.#count = count;
      }
    } catch (error) {
      this.#stale = true;
      if (error.retryAfter) setTimeout(() => this.refresh(), error.retryAfter * 1000);
      else if (this.#client.state.name === "connected") this.#say(`The members did not come: ${error.message}.`, true);
    } finally {
      this.#loading = false;
      this.render();
    }
  }

  #put(member) {
    if (!this.#members.has(member.id)) this.#count += 1;
    this.#members.set(member.id, member);
    this.#happened();
  }

  #drop(person) {
    if (this.#members.delete(person)) this.#count -= 1;
    this.#happened();
  }

  #happened() {
    if (this.#loading) this.#stale = true;
    if (this.#dialog.open) this.render();
  }

  #present(person) {
    return this.#here().find(({ id }) => id === person);
  }

  #say(text, bad = false) {
    this.#parts.note.textContent = text;
    this.#parts.note.classList.toggle("bad", bad);
  }

  /** Which control of which row the keyboard is at. */
  #focused() {
    const at = document.activeElement;
    const row = at?.closest(".member");
    return row && this.#parts.list.contains(row) ? { id: row.dataset.id, action: at.dataset.action } : null;
  }

  #refocus(focus) {
    if (!focus || !this.#dialog.open) return;
    const node = this.#rows.get(focus.id)?.node;
    const control = node?.querySelector(`[data-action="${focus.action}"]:enabled`) ?? node?.querySelector(":enabled");
    (control ?? node ?? this.#dialog.querySelector("#members-close")).focus();
  }
}
