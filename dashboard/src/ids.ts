// An id for a request. `crypto.randomUUID` exists in secure contexts only, and STOP may not depend on one.
let count = 0;

export function freshId(): string {
  count += 1;
  return `${Date.now().toString(36)}-${Math.random().toString(36).slice(2, 10)}-${count}`;
}
