import { defineConfig } from "vite";

export default defineConfig({
  // Everything is relative to the <base> of index.html, so the page also works below a prefix of a proxy.
  base: "./",
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
  build: {
    outDir: "../src/tarmac/server/static",
    emptyOutDir: true,
    // The page is served with the policy `default-src 'self'`: no data: URLs, no inline scripts.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
  },
});
