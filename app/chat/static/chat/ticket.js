/** Tickets from this site's own session, for a RealtimeClient. */

import { TicketRefused } from "./realtime_client.js";

/**
 * @param {string} url
 * @param {string} csrfToken
 * @returns {() => Promise<string>} asks for a ticket
 */
export function ticketsFrom(url, csrfToken) {
  return async () => {
    const headers = { "X-CSRFToken": csrfToken };
    const response = await fetch(url, { method: "POST", headers, signal: AbortSignal.timeout(5000) });
    if (response.status === 401) throw new TicketRefused("you are not logged in any more");
    if (response.status === 403) throw new TicketRefused("this page belongs to an older log-in");
    if (!response.ok) throw new Error(`no ticket: ${response.status}`);
    return (await response.json()).ticket;
  };
}
