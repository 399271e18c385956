import type { ComponentChildren } from "preact";

import type { Status } from "./api.ts";
import { ago, bytes, count, counted, moment } from "./format.ts";

/** Where everything is kept, what proves it, and who is asking. */
export function Facts({ status, now }: { status: Status; now: number }) {
  const { store, blobs, ledger, me } = status;
  return (
    <aside>
      <Group title="Store">
        <Fact name="facts">{store.kind}, {bytes(store.bytes)}</Fact>
        <Fact name="blobs">{count(blobs.count)}, {bytes(blobs.bytes)}</Fact>
        <Fact name="format">{store.format}</Fact>
      </Group>
      <Group title="Ledger">
        <Fact name="events">{count(ledger.events)} in {counted(ledger.seals, "seal")}</Fact>
        <Fact name="sealed">{ledger.sealed_at === null ? "never" : <When at={ledger.sealed_at} now={now} />}</Fact>
        <Fact name="head">{ledger.head ? <code class="clip" title={ledger.head}>{ledger.head}</code> : "none"}</Fact>
      </Group>
      <Group title="You">
        <Fact name="name">
          {me.name}
          {!me.verified && <span class="tag" title="Nobody has checked this name: it is the operating system's.">unverified</span>}
        </Fact>
        <Fact name="may">{me.permissions.join(", ") || "nothing"}</Fact>
        <Fact name="people">{status.people === 0 ? "none registered" : `${count(status.people)} registered`}</Fact>
      </Group>
    </aside>
  );
}

export function When({ at, now }: { at: number; now: number }) {
  return <time dateTime={new Date(at).toISOString()} title={moment(at)}>{ago(at, now)}</time>;
}

function Group({ title, children }: { title: string; children: ComponentChildren }) {
  return (
    <section>
      <h2>{title}</h2>
      <dl>{children}</dl>
    </section>
  );
}

function Fact({ name, children }: { name: string; children: ComponentChildren }) {
  return <div><dt>{name}</dt><dd>{children}</dd></div>;
}
