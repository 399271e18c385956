import type { Run, RunPage } from "./api.ts";
import { When } from "./facts.tsx";
import { moment, span } from "./format.ts";
import { RUNS_SHOWN } from "./snapshot.ts";

export function Runs({ page, now }: { page: RunPage; now: number }) {
  return (
    <>
      <table>
        <thead>
          <tr>
            <th scope="col"><span class="word">status</span></th>
            <th scope="col">run</th>
            <th scope="col" class="roomy">experiment</th>
            <th scope="col" class="number">started</th>
            <th scope="col" class="number">took</th>
            <th scope="col" class="wide">id</th>
          </tr>
        </thead>
        <tbody>{page.runs.map((run) => <Row key={run.id} run={run} now={now} />)}</tbody>
      </table>
      {page.next !== null && <p class="quiet">The newest {RUNS_SHOWN}. <code>tarmac runs ls</code> shows all.</p>}
    </>
  );
}

function Row({ run, now }: { run: Run; now: number }) {
  return (
    <tr>
      <td><span class={`state ${run.status}`}><span class="word">{run.status}</span></span></td>
      <td class="clip" title={run.name || run.id}>
        {run.name || run.id}
        <span class="narrow clip quiet">{run.experiment}</span>
      </td>
      <td class="roomy clip quiet" title={run.experiment}>{run.experiment}</td>
      <td class="number"><When at={run.started_at} now={now} /></td>
      <td class="number" title={run.ended_at === null ? "has not ended" : `ended ${moment(run.ended_at)}`}>
        {span((run.ended_at ?? now) - run.started_at)}
      </td>
      <td class="wide"><code>{run.id}</code></td>
    </tr>
  );
}

const FIRST_RUN = `import tarmac

with tarmac.run("baseline", params={"depth": 6}) as run:
    run.log({"loss": 0.42}, step=1)`;

export function NoRunsYet() {
  return (
    <div class="notice calm">
      <strong>No runs yet</strong>
      <p>The first one appears here by itself. From a script or a notebook:</p>
      <pre><code>{FIRST_RUN}</code></pre>
      <p>Or see the whole life of a model first, on this machine: <code>tarmac demo</code></p>
    </div>
  );
}
