// Numbers and times as people read them.

const COUNT = new Intl.NumberFormat("en");
const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

export function count(value: number): string {
  return COUNT.format(value);
}

/** `3 runs`, `1 run`. */
export function counted(value: number, noun: string): string {
  return `${count(value)} ${noun}${value === 1 ? "" : "s"}`;
}

export function bytes(value: number): string {
  let amount = value;
  for (const unit of ["B", "kB", "MB", "GB"]) {
    if (amount < 999.5) {
      return `${short(amount)} ${unit}`;
    }
    amount /= 1000;
  }
  return `${short(amount)} TB`;
}

/** How long something took, in its two largest units: `2 h 5 min`. */
export function span(ms: number): string {
  if (ms < SECOND) {
    return `${Math.max(0, Math.round(ms))} ms`;
  }
  if (ms < 10 * SECOND) {
    return `${(Math.floor(ms / 100) / 10).toFixed(1)} s`;
  }
  if (ms < MINUTE) {
    return `${Math.floor(ms / SECOND)} s`;
  }
  if (ms < HOUR) {
    return two(ms, MINUTE, "min", SECOND, "s");
  }
  return ms < DAY ? two(ms, HOUR, "h", MINUTE, "min") : two(ms, DAY, "d", HOUR, "h");
}

/** How long ago, in one unit. The clocks of server and browser may differ a little, so the future is `now`. */
export function ago(then: number, now: number): string {
  const ms = now - then;
  if (ms < 5 * SECOND) {
    return "now";
  }
  for (const [unit, name] of [[DAY, "d"], [HOUR, "h"], [MINUTE, "min"]] as const) {
    if (ms >= unit) {
      return `${Math.floor(ms / unit)} ${name} ago`;
    }
  }
  return `${Math.floor(ms / SECOND)} s ago`;
}

/** `2025-11-20 02:13:20 UTC` */
export function moment(ms: number): string {
  return `${new Date(ms).toISOString().slice(0, 19).replace("T", " ")} UTC`;
}

function short(amount: number): string {
  return amount < 10 && !Number.isInteger(amount) ? amount.toFixed(1) : Math.round(amount).toString();
}

function two(ms: number, large: number, largeName: string, small: number, smallName: string): string {
  const rest = Math.floor((ms % large) / small);
  return `${Math.floor(ms / large)} ${largeName}${rest ? ` ${rest} ${smallName}` : ""}`;
}
