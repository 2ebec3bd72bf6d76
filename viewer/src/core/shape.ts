/** Reading a result's JSON: a file is a stranger's until each field that is used has been looked at. */

/** Where a file is not what its schema says, in words: "axes[0].labels should be a list". */
export class Malformed extends Error {}

export type Read<T> = (value: unknown, at: string) => T;
export type Shape<R> = R extends Read<infer T> ? T : never;

function wrong(at: string, wanted: string): never {
  throw new Malformed(`${at || "the file"} should be ${wanted}`);
}

export const text: Read<string> = (value, at) => (typeof value === "string" ? value : wrong(at, "text"));
export const number: Read<number> = (value, at) => (typeof value === "number" ? value : wrong(at, "a number"));
export const truth: Read<boolean> = (value, at) => (typeof value === "boolean" ? value : wrong(at, "true or false"));
export const anything: Read<unknown> = (value) => value;
/** A number or null: undefined numbers are null in our files. */
export const maybe: Read<number | null> = (value, at) => (value === null || value === undefined ? null : number(value, at));

export function list<T>(of: Read<T>): Read<T[]> {
  return (value, at) => (Array.isArray(value) ? value.map((one, i) => of(one, `${at}[${i}]`)) : wrong(at, "a list"));
}

export function nullable<T>(of: Read<T>): Read<T | null> {
  return (value, at) => (value === null || value === undefined ? null : of(value, at));
}

export function fallback<T>(of: Read<T>, otherwise: T): Read<T> {
  return (value, at) => (value === null || value === undefined ? otherwise : of(value, at));
}

export function pair<A, B>(first: Read<A>, second: Read<B>): Read<[A, B]> {
  return (value, at) => (Array.isArray(value) && value.length >= 2 ? [first(value[0], `${at}[0]`), second(value[1], `${at}[1]`)] : wrong(at, "a pair"));
}

/** An object with any keys. A map, since a key of a stranger's file may be "__proto__". */
export function dict<T>(of: Read<T>): Read<Map<string, T>> {
  return (value, at) => {
    if (!isObject(value)) wrong(at, "an object");
    return new Map(Object.entries(value).map(([key, one]) => [key, of(one, `${at}.${key}`)]));
  };
}

export function record<F extends Record<string, Read<unknown>>>(fields: F): Read<{ [K in keyof F]: Shape<F[K]> }> {
  return (value, at) => {
    if (!isObject(value)) wrong(at, "an object");
    const found: Record<string, unknown> = {};
    for (const [key, read] of Object.entries(fields)) found[key] = read(Object.hasOwn(value, key) ? value[key] : undefined, at ? `${at}.${key}` : key);
    return found as { [K in keyof F]: Shape<F[K]> };
  };
}

export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** A list of rows of equal length, as tall and wide as said. */
export function matrix(rows: number, columns: number): Read<(number | null)[][]> {
  const read = list(list(maybe));
  return (value, at) => {
    const found = read(value, at);
    if (found.length !== rows || found.some((row) => row.length !== columns)) wrong(at, `${rows} rows of ${columns} numbers`);
    return found;
  };
}
