/** The page of one room: wires the client to what people see. */

import { Composer } from "./composer.js";
import { ConnectionStatus } from "./connection_status.js";
import { History } from "./history.js";
import { MembersDialog } from "./members_dialog.js";
import { MessageList } from "./message_list.js";
import { Outbox } from "./outbox.js";
import { PeopleList } from "./people_list.js";
import { ReadMarker } from "./read_marker.js";
import { RealtimeClient } from "./realtime_client.js";
import { backOff } from "./reconnect.js";
import { ticketsFrom } from "./ticket.js";

const page = document.querySelector("main");
const find = (id) => document.getElementById(id);
const { room, public: isPublic, userId, realtimeUrl, ticketUrl, logInUrl } = page.dataset;
const stream = `room.${room}`;
const csrfToken = page.querySelector("[name=csrfmiddlewaretoken]").value;

const url = new URL(realtimeUrl, location.href);
url.protocol = url.protocol.replace("http", "ws");
const tickets = ticketsFrom(ticketUrl, csrfToken);
const client = new RealtimeClient({ url, ticket: tickets, resume });

/** @type {{id: string, name: string}} */
let me = { id: userId, name: "" };
/** Whether the room was heard before: then coming in is coming back. */
let wasHere = false;
/** Whether the room has ended for this person. */
let left = false;
/** @type {{role: string | null, muted: boolean} | null} */
let rights = null;
/** The session has ended, or the password was changed. */
const LOGGED_OUT = [4503, 4504];
const BECAME = {
  owner: "You are an owner of this room now",
  moderator: "You are a moderator of this room now",
  member: "You are a member of this room now",
};

const status = new ConnectionStatus(page.querySelector(".status"), logInUrl);
const people = new PeopleList(find("people-list"), find("people-more"), find("people-count"), () => members.refresh());
const members = new MembersDialog(client, { room, isPublic: isPublic === "yes", me: userId }, find("members"), () => people.here);
const outbox = new Outbox(client, room, userId, underWay);
const messages = new MessageList(find("log"), find("messages"), find("new-messages"), {
  edit: (id, text) => outbox.add("chat.edit_message", { message_id: id, text }),
  remove: (id) => outbox.add("chat.delete_message", { message_id: id }),
  retry: (key) => outbox.retry(key),
  discard: (key) => {
    outbox.discard(key);
    composer.focus();
  },
  back: () => composer.focus(),
  looked: look,
  added: () => outbox.tell(),
});
const history = new History(client, room, messages, {
  log: find("log"),
  button: find("earlier"),
  beginning: find("beginning"),
});
const marker = new ReadMarker(client, room);
const composer = new Composer(find("composer"), `draft ${userId} ${room}`, {
  send: (text) => outbox.add("chat.post_message", { text }),
  editLast: () => messages.editLast(),
});
messages.me = people.me = userId;
outbox.restore();

// --- What happens in the room ----------------------------------------------------------------------------

const here = (handler) => (data, place) => data.room === room && handler(data, place);
client.on(
  "chat.message_posted",
  here((message, { sequence }) => {
    const mine = message.sender.id === me.id;
    const watched = !document.hidden && messages.atEnd;
    const firstUnread = !mine && !watched && !marker.unread;
    if (!mine) marker.arrived();
    messages.post({ ...message, sequence }, firstUnread);
    if (mine) outbox.seen(message.message_id);
  }),
);
client.on("chat.message_edited", here((change) => messages.edit(change)));
client.on("chat.message_deleted", here((change) => messages.remove(change.message_id)));
client.on("stream.blanked", (data, place) => place?.stream === stream && history.blanked(place.sequence));
client.on(
  "chat.member_changed",
  here((change) => {
    members.changed(change);
    if (change.person === me.id) setRights(change);
  }),
);
client.on(
  "chat.member_removed",
  here((removal) => {
    members.removed(removal);
    if (removal.person !== me.id) return;
    if (removal.banned) leave("You have been banned from this room.");
    else leave(members.leaving ? "You have left this room." : "You were removed from this room.");
  }),
);
client.on(
  "presence.joined",
  here(({ member, count }) => {
    if (people.put(member, count) && member.id !== me.id) messages.notice(`${member.name} joined`);
  }),
);
client.on(
  "presence.left",
  here(({ member, count }) => {
    if (people.remove(member, count) && member.id !== me.id) messages.notice(`${member.name} left`);
  }),
);
client.on("presence.moved", here(({ member }) => people.put(member)));
client.on("presence.roster", here(({ members, count }) => people.setAll(members, count)));
client.on("node.bus_changed", ({ connected }) => {
  if (!left) status.show(client.state, tryNow);
  messages.notice(
    connected
      ? "All nodes hear each other at once again."
      : "The nodes reach each other through the database for now: messages take about a second.",
  );
});

// --- Coming in, coming back, going -----------------------------------------------------------------------

client.onState((state) => {
  if (left) return;
  status.show(state, tryNow);
  if (state.name === "connected") {
    me = state.hello.user;
    // Somebody else has logged in meanwhile: what waits here is not theirs to send.
    if (me.id !== userId) location.reload();
    else if (!client.position(stream)) join(state.hello);
    return;
  }
  if (page.dataset.joined) {
    delete page.dataset.joined;
    outbox.setOpen(false);
  }
  if (state.name === "stopped" && LOGGED_OUT.includes(state.code)) {
    setTimeout(lookWhetherLoggedIn, (1 + 2 * Math.random()) * 1000); // whose password it was has many pages, perhaps
  }
});

/** Another tab may have logged in again, or changed the password: then this page's cookie is good already. */
async function lookWhetherLoggedIn() {
  try {
    await tickets(2);
    if (client.state.name === "stopped") client.connect();
  } catch {
    // The page has said what to do.
  }
}

/** Come in with a snapshot: for the first time, and where the node cannot go on from what is shown. */
async function join(hello, attempt = 0) {
  try {
    const reply = await client.command("chat.join_room", { room });
    client.follow(stream, reply.position, () => {
      outbox.setOpen(false);
      join(client.state.hello);
    });
    messages.restart(reply.messages, reply.earlier, reply.last_read);
    for (const { message_id: id } of reply.messages) outbox.seen(id);
    history.restart();
    marker.restart(reply.last_read, reply.unread);
    joined(reply, true);
  } catch (error) {
    if (client.state.hello !== hello) return;
    if (error.code === "not_found") leave("This room is not there any more, or not open to you.");
    else if (error.code === "not_allowed") leave("You have been banned from this room.");
    else {
      sayThatItTakesLong();
      const seconds = error.retryAfter ?? 0.5 + backOff(attempt);
      setTimeout(() => client.state.hello === hello && join(hello, attempt + 1), seconds * 1000);
    }
  }
}

/** Go on from the position that was seen; the events after it follow. */
async function resume(positions) {
  const asked = client.command("chat.resume", { rooms: [{ room, ...positions.get(stream) }] });
  asked.catch(() => client.state.hello && sayThatItTakesLong());
  const [answer] = (await asked).rooms;
  if (answer.resumed) {
    joined(answer, false);
    marker.resume();
    history.resume();
  }
  return { [stream]: answer };
}

function sayThatItTakesLong() {
  status.warn(`Connected to ${client.state.hello.node}, but it cannot reach the room. Trying again…`);
}

function joined({ role, muted, members: present, count }, anew) {
  const { node } = client.state.hello;
  status.show(client.state, tryNow);
  people.setAll(present, count);
  if (wasHere && !page.dataset.joined) messages.divide(`Reconnected, now to ${node}`);
  wasHere = true;
  page.dataset.joined = node;
  setRights({ role, muted });
  members.back(anew);
  look();
  outbox.setOpen(true);
}

function setRights({ role, muted }) {
  if (rights && rights.role !== role) messages.notice(BECAME[role] ?? "You have no role here any more");
  rights = { role, muted };
  messages.rights = members.rights = rights;
  composer.setMuted(muted);
  find("members-open").hidden = false;
}

/** The room has ended for this person: say so, and keep what they wrote. */
function leave(why) {
  left = true;
  members.end();
  find("members-open").hidden = true;
  client.unfollow(stream);
  client.command("chat.leave_room", { room }).catch(() => {});
  delete page.dataset.joined;
  outbox.giveUp("you are not in this room any more");
  composer.close();
  messages.close();
  page.classList.add("left");
  status.warn(why, "All rooms", () => location.assign("/"));
}

function tryNow() {
  client.connect();
  composer.focus();
}

/** How a post, an edit or a deletion of this person's stands. @param {import("./outbox.js").Entry} entry */
function underWay(entry) {
  messages.show(entry, me);
  const { reply } = entry;
  const position = client.position(stream);
  // Stored before what is shown begins, so no event will bring it: history has it.
  const past = reply && position?.epoch === reply.epoch && reply.sequence <= position.sequence;
  if (entry.state === "sent" && past) messages.drop(entry.key);
  else if (reply && left) messages.keep(entry.key, reply.sequence);
}

// --- What was seen ---------------------------------------------------------------------------------------

function look() {
  if (find("earlier").hidden === messages.earlier) history.look(); // old ones have left the page
  if (!document.hidden && messages.atEnd && page.dataset.joined) marker.seen(messages.newest);
}
document.addEventListener("visibilitychange", look);

// --- Who is here, on a narrow screen ---------------------------------------------------------------------

find("members-open").addEventListener("click", () => members.open());
const toggle = find("people-toggle");
function showPeople(shown) {
  toggle.setAttribute("aria-expanded", String(shown));
  find("people").classList.toggle("shown", shown);
}
toggle.addEventListener("click", () => showPeople(toggle.getAttribute("aria-expanded") === "false"));
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !find("members").open && toggle.getAttribute("aria-expanded") === "true") {
    showPeople(false);
    toggle.focus();
  }
});
find("log").addEventListener("pointerdown", () => showPeople(false));

client.connect();
if (matchMedia("(hover: hover)").matches) composer.focus();
