/* The colour scales: which weights their two ends stand for. The rules are those of sagan/viewing/scales.py. */

import { isGate } from "./maps.js";

const TOP = 4; // times the uniform weight, at least, is the top of the scale

export const SCALES = [
  ["zero", "from 0"],
  ["shared", "one for all"],
  ["stretch", "own range (stretched)"],
];

const isSigned = ({ distribution, minimum }) => !distribution && minimum.some((low) => low < 0);

/* `uniform` is the weight of each key if all are alike. */
export function rangeOf({ uniform }, { low, high, mean }, entry, scale) {
  if (isSigned(entry)) {
    const reach = Math.max(-low, high, 1e-30);
    return { from: -reach, to: reach, signed: true };
  }
  if (scale === "stretch") return { from: low, to: high, signed: false };
  return { from: 0, to: Math.max(high, isGate(entry) ? 1 : TOP * (uniform ?? mean)), signed: false };
}

/* Around 0, for a difference. */
export function rangeOfDifference({ low, high }) {
  const reach = Math.max(-low, high, 1e-30);
  return { from: -reach, to: reach, signed: true };
}

/* The range that holds all of several with the same colours. */
export const spanning = (ranges) => ({
  from: Math.min(...ranges.map(({ from }) => from)),
  to: Math.max(...ranges.map(({ to }) => to)),
  signed: ranges[0].signed,
});

/* The ends of the axis of bars: the same for all images and steps, and around 0 and 1. */
export const axisOf = (entries) => ({
  from: Math.min(0, ...entries.flatMap(({ minimum }) => minimum)),
  to: Math.max(1, ...entries.flatMap(({ maximum }) => maximum)),
});
