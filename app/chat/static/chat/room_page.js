/** The page of one room: wires the client to what people see. */

import { Composer } from "./composer.js";
import { ConnectionStatus } from "./connection_status.js";
import { MessageList } from "./message_list.js";
import { Outbox } from "./outbox.js";
import { PeopleList } from "./people_list.js";
import { RealtimeClient } from "./realtime_client.js";
import { ticketsFrom } from "./ticket.js";
import { clockWithSeconds } from "./times.js";

const JOIN_AGAIN_SECONDS = 2;

const page = document.querySelector("main");
const find = (id) => document.getElementById(id);
const { room, userId, realtimeUrl, ticketUrl, logInUrl } = page.dataset;
const csrfToken = page.querySelector("[name=csrfmiddlewaretoken]").value;

const url = new URL(realtimeUrl, location.href);
url.protocol = url.protocol.replace("http", "ws");
const client = new RealtimeClient({ url, ticket: ticketsFrom(ticketUrl, csrfToken) });

let me = { id: userId, name: "" };
/** When this page last stopped hearing the room. @type {Date | null} */
let deafSince = null;

const status = new ConnectionStatus(page.querySelector(".status"), logInUrl);
const people = new PeopleList(find("people-list"), find("people-more"), find("people-count"));
const outbox = new Outbox(client, room, (entry) => messages.showPending(entry, me));
const messages = new MessageList(find("log"), find("messages"), find("new-messages"), {
  retry: (key) => outbox.retry(key),
  discard: (key) => {
    outbox.discard(key);
    composer.focus();
  },
});
const composer = new Composer(find("composer"), `draft ${userId} ${room}`, (text) => outbox.post(text));
messages.me = people.me = userId;

const here = (handler) => (data) => data.room === room && handler(data);
client.on(
  "chat.message_posted",
  here((message) => {
    const isNew = messages.show(message);
    if (message.sender.id === me.id) outbox.seen(message.message_id);
    else if (isNew) countUnseen();
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
  status.show(client.state, tryNow);
  messages.notice(
    connected
      ? "All nodes hear each other again. What was said on other nodes meanwhile is not shown."
      : "The nodes cannot hear each other. People on this node still can.",
  );
});
client.onState((state) => {
  status.show(state, tryNow);
  if (state.name === "connected") {
    me = state.hello.user;
    messages.me = people.me = me.id;
    join(state.hello);
  } else if (page.dataset.joined) {
    delete page.dataset.joined;
    deafSince = new Date();
    outbox.setJoined(false);
  }
});

async function join(hello) {
  try {
    const { members, count } = await client.command("chat.join_room", { room });
    people.setAll(members, count);
    page.dataset.joined = hello.node;
    if (deafSince) {
      const [from, to] = [clockWithSeconds(deafSince), clockWithSeconds(new Date())];
      const span = from === to ? `at ${from}` : `${from} – ${to}`;
      messages.divide(`Reconnected, now to ${hello.node}. Messages sent ${span} are not shown.`);
      deafSince = null;
    }
    outbox.setJoined(true);
  } catch (error) {
    if (client.state.hello !== hello) return;
    if (error.code === "not_found") {
      status.warn("This room is not open any more.", "All rooms", () => location.assign("/"));
    } else setTimeout(() => client.state.hello === hello && join(hello), JOIN_AGAIN_SECONDS * 1000);
  }
}

function tryNow() {
  client.connect();
  composer.focus();
}

// --- Who is here, on a narrow screen ---------------------------------------------------------------------

const toggle = find("people-toggle");
function showPeople(shown) {
  toggle.setAttribute("aria-expanded", String(shown));
  find("people").classList.toggle("shown", shown);
}
toggle.addEventListener("click", () => showPeople(toggle.getAttribute("aria-expanded") === "false"));
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && toggle.getAttribute("aria-expanded") === "true") {
    showPeople(false);
    toggle.focus();
  }
});
find("log").addEventListener("pointerdown", () => showPeople(false));

// --- What came while nobody looked -----------------------------------------------------------------------

const title = document.title;
let unseen = 0;
function countUnseen() {
  if (document.hidden) document.title = `(${++unseen}) ${title}`;
}
document.addEventListener("visibilitychange", () => {
  if (document.hidden) return;
  unseen = 0;
  document.title = title;
});

client.connect();
if (matchMedia("(hover: hover)").matches) composer.focus();
