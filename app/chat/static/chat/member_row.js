/** One member in the list: their name, what they are, and what its reader may do about it. */

import { avatar, element } from "./elements.js";

const ROLES = { owner: "Owner", moderator: "Moderator", member: "Member", banned: "Banned" };
const AS = { owner: "an owner", moderator: "a moderator", member: "a member" };

/** @typedef {import("./member_rights.js").Member} Member */
/** @typedef {import("./member_rights.js").Role} Role */

/**
 * @typedef {object} Asked what its reader is asked once more
 * @property {"role"|"remove"|"ban"} what
 * @property {Role} [role]
 */

/**
 * @typedef {object} Actions
 * @property {(asked: Asked | null) => void} ask null: never mind
 * @property {(role: Role) => void} setRole
 * @property {(muted: boolean) => void} mute
 * @property {() => void} remove
 * @property {() => void} ban
 */

/**
 * @param {Member} member
 * @param {{myself: boolean, isPublic: boolean, rights: import("./member_rights.js").Rights, asked?: Asked, busy: boolean}} state
 * @param {Actions} actions
 */
export function memberRow(member, { myself, isPublic, rights, asked, busy }, actions) {
  const called = member.name || (member.guest ? "A guest" : "Somebody");
  const name = element("span", "name", called);
  name.title = called;
  const line = element("span", "name-line", name);
  if (myself) line.append(" ", element("span", "tag", "you"));
  else if (member.guest && member.name) line.append(" ", element("span", "tag", "guest"));
  if (member.muted) line.append(" ", element("span", "tag warning", "muted"));
  const whom = myself ? "yourself" : called;

  const controls = element("span", "controls");
  if (rights.roles.length) controls.append(roleChoice(member, whom, rights.roles, asked, actions));
  else if (member.role) controls.append(element("span", "role", ROLES[member.role]));
  const offer = (what, label, act) => controls.append(tool(what, label, whom, act));
  if (rights.mute) offer("mute", member.muted ? "Unmute" : "Mute", () => actions.mute(!member.muted));
  if (rights.remove) offer("remove", "Remove", () => actions.ask({ what: "remove" }));
  if (rights.ban) offer("ban", "Ban", () => actions.ask({ what: "ban" }));
  if (rights.pardon) offer("pardon", "Lift the ban", actions.remove);
  for (const control of controls.querySelectorAll("button, select")) control.disabled = busy;

  const row = element("li", "member", avatar({ id: member.id, name: called }), line, controls);
  row.tabIndex = -1; // where the keyboard stays while its controls rest
  if (busy) row.append(element("span", "doing", "Saving…"));
  else if (asked) row.append(question(asked, whom, isPublic, actions));
  return row;
}

function roleChoice(member, whom, roles, asked, actions) {
  const choice = element("select", "");
  choice.dataset.action = "role";
  choice.setAttribute("aria-label", `Role of ${whom}`);
  const chosen = asked?.what === "role" ? asked.role : member.role;
  for (const role of roles) choice.append(new Option(ROLES[role] ?? "No role", role ?? "", false, role === chosen));
  choice.addEventListener("change", () => {
    const role = choice.value || null;
    actions.ask(role === member.role ? null : { what: "role", role });
  });
  return choice;
}

function question({ what, role }, whom, isPublic, actions) {
  const about = {
    role: role ? `Make ${whom} ${AS[role]}?` : `Take the role of ${whom} away?`,
    remove: isPublic ? `Remove ${whom}? They may come back.` : `Remove ${whom}? They see nothing of what is said later.`,
    ban: `Ban ${whom}? They stay out until the ban is lifted.`,
  };
  const act = { role: () => actions.setRole(role), remove: actions.remove, ban: actions.ban };
  const yes = tool("yes", { role: "Change", remove: "Remove", ban: "Ban" }[what], "", act[what]);
  const no = tool("no", "Cancel", "", () => actions.ask(null));
  const ask = element("span", what === "role" ? "ask" : "ask grave", element("span", "", about[what]), yes, no);
  ask.setAttribute("role", "group");
  return ask;
}

function tool(action, label, whom, act) {
  const button = element("button", "link", label);
  if (whom) button.append(element("span", "visually-hidden", ` ${whom}`));
  button.type = "button";
  button.dataset.action = action;
  button.addEventListener("click", act);
  return button;
}
