// After a build: the page beside its bundle, and the hash of what it was made from.
import { copyFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { built, root, sourceHash } from "./sources.mjs";

copyFileSync(join(root, "index.html"), join(built, "index.html"));
writeFileSync(join(built, "source.sha256"), `${sourceHash()}\n`);
const size = ["viewer.js", "viewer.css"].reduce((sum, name) => sum + statSync(join(built, name)).size, 0);
console.log(`bundle: ${(size / 1024).toFixed(1)} KB`);
if (size > 280 * 1024) throw new Error("the bundle is larger than 280 KB");
