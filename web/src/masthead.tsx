import type { Problem } from "./api.ts";

interface Props {
  project: string;
  version: string | undefined;
  at: number | null;
  problem: Problem | null;
  paused: boolean;
}

/** Which workspace this is, and whether what the page shows is current. */
export function Masthead({ project, version, at, problem, paused }: Props) {
  return (
    <header>
      <h1>
        <img src="favicon.svg" alt="" width="18" height="18" /> tarmac <span class="project">{project}</span>
      </h1>
      <span class="roomy quiet">{version}</span>
      <Pulse at={at} problem={problem} paused={paused} />
      <nav><a href="docs">API</a></nav>
    </header>
  );
}

function Pulse({ at, problem, paused }: Pick<Props, "at" | "problem" | "paused">) {
  if (problem) {
    return <span class="pulse bad">{{ silent: "no answer", refused: "not allowed", failed: "error" }[problem.kind]}</span>;
  }
  if (at === null) {
    return <span class="pulse">asking</span>;
  }
  const clock = new Date(at).toLocaleTimeString("en-GB");
  return paused ? <span class="pulse">paused at {clock}</span> : <span class="pulse good">live, {clock}</span>;
}
