/* The colour scales: the weights at their two ends. sagan/viewing/scales.py has the same rules. */

import { isGate } from "./maps.js";

const TOP = 4; // times the uniform weight: the lowest value that the top of the scale can have

export const SCALES = [
  ["zero", "from 0"],
  ["shared", "one for all"],
  ["stretch", "own range (stretched)"],
];

const isSigned = ({ distribution, minimum }) => !distribution && minimum.some((low) => low < 0);

/* `uniform` is the weight that each key would have if all were equal. */
export function rangeOf({ uniform }, { low, high, mean }, entry, scale) {
  if (isSigned(entry)) {
    const reach = Math.max(-low, high, 1e-30);
    return { from: -reach, to: reach, signed: true };
  }
  if (scale === "stretch") return { from: low, to: high, signed: false };
  return { from: 0, to: Math.max(high, isGate(entry) ? 1 : TOP * (uniform ?? mean)), signed: false };
}

/* The range of a difference, symmetric around 0. */
export function rangeOfDifference({ low, high }) {
  const reach = Math.max(-low, high, 1e-30);
  return { from: -reach, to: reach, signed: true };
}

/* The smallest range that contains several ranges, which must have the same colours. */
export const spanning = (ranges) => ({
  from: Math.min(...ranges.map(({ from }) => from)),
  to: Math.max(...ranges.map(({ to }) => to)),
  signed: ranges[0].signed,
});

/* The ends of the axis of bars. It is the same for all images and steps, and contains 0 and 1. */
export const axisOf = (entries) => ({
  from: Math.min(0, ...entries.flatMap(({ minimum }) => minimum)),
  to: Math.max(1, ...entries.flatMap(({ maximum }) => maximum)),
});
