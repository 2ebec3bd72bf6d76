// Builds again into a temporary folder and compares with the committed bundle, byte for byte.
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { build } from "vite";
import { built, root, sourceHash } from "./sources.mjs";

const fresh = mkdtempSync(join(tmpdir(), "cutaway-viewer-"));
const stale = [];
try {
  await build({ root, logLevel: "error", build: { outDir: fresh, emptyOutDir: true } });
  for (const name of ["viewer.js", "viewer.css"])
    if (!readFileSync(join(fresh, name)).equals(readFileSync(join(built, name)))) stale.push(name);
  if (!readFileSync(join(root, "index.html")).equals(readFileSync(join(built, "index.html")))) stale.push("index.html");
  if (readFileSync(join(built, "source.sha256"), "utf8").trim() !== sourceHash()) stale.push("source.sha256");
} finally {
  rmSync(fresh, { recursive: true, force: true });
}
if (stale.length) {
  console.error(`not current: ${stale.join(", ")}. Run 'npm run build' in viewer/ and commit src/cutaway/viewer/static.`);
  process.exit(1);
}
console.log("the committed bundle is current");
