// What the server answers, and every way in which it can fail to. Times are integer milliseconds, UTC.

import { addressOf } from "./place.ts";

export interface Status {
  version: string;
  project: string;
  store: { kind: string; format: number; bytes: number };
  experiments: number;
  runs: Record<string, number>;
  blobs: { count: number; bytes: number };
  ledger: { events: number; seals: number; head: string | null; sealed_at: number | null };
  jobs: Record<string, number>;
  people: number;
  me: { name: string; verified: boolean; permissions: string[] };
}

export interface Run {
  id: string;
  name: string | null;
  experiment: string;
  status: string;
  started_at: number;
  ended_at: number | null;
}

export interface RunPage {
  runs: Run[];
  next: string | null;
}

/** `silent`: nobody answered. `refused`: not allowed. `failed`: the server answered with any other error. */
export type ProblemKind = "silent" | "refused" | "failed";

export class Problem extends Error {
  readonly kind: ProblemKind;
  readonly hint: string | null;

  constructor(kind: ProblemKind, message: string, hint: string | null = null) {
    super(message);
    this.kind = kind;
    this.hint = hint;
  }
}

const PATIENCE_MS = 10_000;
const NOBODY_BEHIND_THE_PROXY = [502, 503, 504];

/** Asks one query of the server. Whatever goes wrong is thrown as a `Problem`. */
export async function ask<T>(project: string, operation: string, query: Record<string, string> = {}): Promise<T> {
  const { status, ok, body } = await exchange(addressOf(project, operation, query));
  if (ok && body !== null) {
    return body as T;
  }
  throw problemIn(status, body);
}

/** Reads the one error shape, `{"error": {"code", "message", "hint", "detail"}}`; anything else is not our server. */
export function problemIn(status: number, body: unknown): Problem {
  const error = isRecord(body) && isRecord(body["error"]) ? body["error"] : null;
  const message = typeof error?.["message"] === "string" ? error["message"] : null;
  const hint = typeof error?.["hint"] === "string" ? error["hint"] : null;
  if (status === 401 || status === 403) {
    return new Problem("refused", message ?? `The server refused (${status}).`, hint);
  }
  if (message !== null) {
    return new Problem("failed", message, hint);
  }
  if (NOBODY_BEHIND_THE_PROXY.includes(status)) {
    return new Problem("silent", `A proxy answered with ${status}: there is no server behind it.`);
  }
  return new Problem("failed", `The answer (${status}) did not come from a tarmac server.`);
}

async function exchange(address: string): Promise<{ status: number; ok: boolean; body: unknown }> {
  let response: Response;
  let text: string;
  try {
    response = await fetch(address, {
      headers: { accept: "application/json" },
      cache: "no-store",
      signal: AbortSignal.timeout(PATIENCE_MS),
    });
    text = await response.text();
  } catch (reason) {
    const late = reason instanceof DOMException && reason.name === "TimeoutError";
    throw new Problem("silent", late ? `No answer within ${PATIENCE_MS / 1000} s.` : "Nothing answers at this address.");
  }
  return { status: response.status, ok: response.ok, body: parsed(text) };
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null;
}
