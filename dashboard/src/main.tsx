// Starts the page: one live link, one STOP, one clock, and the views.
import { render } from 'preact';
import { App } from './app';
import { Live } from './live';
import { nowMs, selected } from './model';
import { installProbe } from './probe';
import { NO_SEAT, Stop } from './stop';
import './styles.css';
import { startSupervising } from './supervise';
import { takeChunk } from './traces/traces';

const live: Live = new Live({
  chunk: takeChunk,
  stopResult: (result) => stop.take(result),
  opened: () => stop.opened(),
});
const stop = new Stop((message) => live.send(message));

addEventListener(
  'keydown',
  (event) => {
    if (event.key !== 'Escape' || event.repeat) return;
    stop.press(selected.value?.seat ?? NO_SEAT);
  },
  { capture: true },
);

const tick = (): void => {
  nowMs.value = performance.now();
};
setInterval(tick, 250);
// A hidden page's timers are slowed down to one a minute; the first look at it must already be true.
document.addEventListener('visibilitychange', tick);

startSupervising((message) => live.send(message));
installProbe();
render(<App live={live} stop={stop} />, document.getElementById('app')!);
live.start();
