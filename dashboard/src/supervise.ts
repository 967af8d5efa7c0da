// Somebody is watching: answers the daemon's challenges while the page is in view, and keeps a phone's screen from locking.
import { effect } from '@preact/signals';
import { challenge, received, reportUnknown } from './model';

/** Phases in which silence of every page would end the stimulation (S13). */
const WATCHED = ['screen', 'contact', 'baseline', 'ramp_up', 'on', 'ramp_down'];

/** Answers the newest challenge once; a page that nobody can see says nothing, so that the daemon ends by itself. */
export function startSupervising(send: (message: object) => boolean): void {
  let answered = '';
  const answer = (): void => {
    const nonce = challenge.value;
    if (nonce === '' || nonce === answered || document.visibilityState !== 'visible') return;
    if (send({ type: 'supervise', nonce })) answered = nonce;
  };
  effect(answer);
  document.addEventListener('visibilitychange', answer);
  keepAwake();
}

/** Where the browser can: a locked phone answers nothing, and the session would end for no better reason. */
function keepAwake(): void {
  if (!('wakeLock' in navigator)) return;
  let lock: WakeLockSentinel | null = null;
  let asking = false;
  const adjust = async (): Promise<void> => {
    const wanted = !reportUnknown.value && WATCHED.includes(received.value?.state.phase ?? '') && document.visibilityState === 'visible';
    if (asking || wanted === (lock !== null)) return;
    asking = true;
    try {
      if (wanted) {
        lock = await navigator.wakeLock.request('screen');
        lock.addEventListener('release', () => (lock = null));
      } else {
        await lock?.release();
      }
    } catch {
      // Battery low or not allowed: the page works without, and the person sees that it must stay in view.
    } finally {
      asking = false;
    }
  };
  effect(() => void adjust());
  document.addEventListener('visibilitychange', () => void adjust());
}
