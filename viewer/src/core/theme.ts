/** Light or dark: the system's, until the user chooses. */

export type Theme = "auto" | "light" | "dark";

export function isDark(chosen: Theme): boolean {
  return chosen === "dark" || (chosen === "auto" && matchMedia("(prefers-color-scheme: dark)").matches);
}

export function theme(dark: boolean): void {
  document.documentElement.dataset.theme = dark ? "dark" : "light";
}
