// What the bundle is made from, and its hash. tests/viewer/test_bundle.py computes the same without Node.
import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { join, relative, sep } from "node:path";
import { fileURLToPath } from "node:url";

export const root = fileURLToPath(new URL("..", import.meta.url));
export const built = join(root, "..", "src", "cutaway", "viewer", "static");

const SINGLE = ["index.html", "package.json", "package-lock.json", "tsconfig.json", "vite.config.ts"];

function below(folder) {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) =>
    entry.isDirectory() ? below(join(folder, entry.name)) : [join(folder, entry.name)],
  );
}

export function sourceHash() {
  const paths = [...SINGLE, ...below(join(root, "src")).map((path) => relative(root, path).split(sep).join("/"))].sort();
  const hash = createHash("sha256");
  for (const path of paths) {
    const body = readFileSync(join(root, path));
    hash.update(`${path}\0${body.length}\0`).update(body);
  }
  return hash.digest("hex");
}
