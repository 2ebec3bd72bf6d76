import { defineConfig } from "vite";

// One script and one style sheet under fixed names: Python inlines them, or serves them beside index.html.
export default defineConfig({
  publicDir: false,
  build: {
    outDir: "../src/cutaway/viewer/static",
    emptyOutDir: false,
    target: "es2022",
    cssCodeSplit: false,
    modulePreload: false,
    reportCompressedSize: false,
    rolldownOptions: {
      input: "src/main.ts",
      output: {
        format: "iife",
        entryFileNames: "viewer.js",
        assetFileNames: (asset) => (asset.names?.some((name) => name.endsWith(".css")) ? "viewer.css" : "[name][extname]"),
      },
    },
  },
});
