/** What a person may do with another's membership, as the node decides it: what it would refuse is not offered. */

/** @typedef {"owner"|"moderator"|"member"|"banned"|null} Role null: nobody in particular */
/** @typedef {{id: string, name: string, guest: boolean, role: Role, muted: boolean}} Member */

/**
 * @typedef {object} Rights
 * @property {Role[]} roles what the other may be made; empty: nothing else than they are
 * @property {boolean} mute
 * @property {boolean} remove
 * @property {boolean} ban
 * @property {boolean} pardon lift a ban
 */

const HIGH = ["owner", "moderator"];

/** @param {Role} role */
export const moderates = (role) => HIGH.includes(role);

/**
 * @param {Member} me
 * @param {Member} other
 * @param {{isPublic: boolean, owners: string[]}} room `owners`: the ids of those who have an account
 * @returns {Rights}
 */
export function rightsOver(me, other, { isPublic, owners }) {
  const owns = me.role === "owner";
  const myself = me.id === other.id;
  const mayTouch = owns || (me.role === "moderator" && !moderates(other.role));
  const lastOwner = isLastOwner(other, owners);
  if (!mayTouch || lastOwner) return { roles: [], mute: false, remove: false, ban: false, pardon: false };
  if (other.role === "banned") return { roles: [], mute: false, remove: false, ban: false, pardon: true };
  // In a room for members nobody is there without a role.
  const high = other.guest && other.role !== "owner" ? ["moderator"] : HIGH;
  const roles = [...(owns ? high : []), "member", ...(isPublic ? [null] : [])];
  return {
    roles: roles.some((role) => role !== other.role) ? roles : [],
    mute: !myself && other.role !== "owner",
    remove: !myself,
    // Removal is enough where nobody comes in without being added.
    ban: !myself && isPublic,
    pardon: false,
  };
}

/** Whether no other owner has an account: guests are gone with their session. @param {Member} one @param {string[]} owners */
export const isLastOwner = (one, owners) => one.role === "owner" && owners.every((id) => id === one.id);

/** Whether somebody may end their own membership. @param {Member} me @param {string[]} owners */
export function mayLeave(me, owners) {
  return ["owner", "moderator", "member"].includes(me.role) && !me.muted && !isLastOwner(me, owners);
}
