import { useEffect } from "preact/hooks";

/** Calls what belongs to a key, unless somebody is typing or means the browser's own shortcut. */
export function useKeys(actions: Record<string, () => void>): void {
  useEffect(() => {
    const press = (event: KeyboardEvent) => {
      const typing = event.target instanceof HTMLElement && event.target.matches("input, select, textarea");
      if (!typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
        actions[event.key]?.();
      }
    };
    document.addEventListener("keydown", press);
    return () => document.removeEventListener("keydown", press);
  }, [actions]);
}
