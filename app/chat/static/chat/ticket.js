/** Tickets from this site's own session, for a RealtimeClient. */

import { TicketRefused } from "./realtime_client.js";

/** A ticket is not used for its last seconds: it must still be valid when it arrives. */
const SPARE_SECONDS = 5;

/**
 * @param {string} url
 * @param {string} csrfToken
 * @returns {() => Promise<string>} asks for a ticket, or gives the last one while it is fresh
 */
export function ticketsFrom(url, csrfToken) {
  let ticket = "";
  let freshUntil = 0;
  return async () => {
    if (Date.now() < freshUntil) return ticket;
    const response = await fetch(url, {
      method: "POST",
      headers: { "X-CSRFToken": csrfToken },
      signal: AbortSignal.timeout(5000),
    });
    if (response.status === 401) throw new TicketRefused("you are not logged in any more");
    if (response.status === 403) throw new TicketRefused("this page belongs to an older log-in");
    if (!response.ok) throw new Error(`no ticket: ${response.status}`);
    const body = await response.json();
    ticket = body.ticket;
    freshUntil = Date.now() + (body.expires_in - SPARE_SECONDS) * 1000;
    return ticket;
  };
}
