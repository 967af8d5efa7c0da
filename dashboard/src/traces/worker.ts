// The trace renderer in a thread of its own, so that a busy page never makes the traces stutter.
import type { ToRenderer } from './protocol';
import { Renderer } from './renderer';

const renderer = new Renderer((report) => postMessage(report));

function tick(nowMs: number): void {
  renderer.frame(nowMs);
  requestAnimationFrame(tick);
}

addEventListener('message', (event: MessageEvent<ToRenderer>) => renderer.receive(event.data));
requestAnimationFrame(tick);
postMessage({ type: 'ready' });
