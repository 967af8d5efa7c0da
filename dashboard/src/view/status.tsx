// The status pill and the banners: is what I see now, and what is this page allowed to be used for.
import { demo, dropped, freshness, link, received, reportAgeS, reportUnknown, selected, streamAgeS } from '../model';
import { formatAge, formatClock, plural } from './format';
import type { Mark } from './shape';
import { Shape } from './shape';

interface Status {
  mark: Mark;
  word: string;
  detail: string;
}

function status(): Status {
  const age = Math.max(streamAgeS.value ?? 0, link.value === 'open' ? 0 : Number.isFinite(reportAgeS.value) ? reportAgeS.value : 0);
  if (link.value === 'signed-out') return { mark: 'off', word: 'Not signed in', detail: '' };
  switch (freshness.value) {
    case 'live':
      return { mark: 'good', word: 'Live', detail: formatAge(streamAgeS.value) };
    case 'delayed':
      return { mark: 'warn', word: 'Delayed', detail: formatAge(age) };
    case 'lost':
      if (streamAgeS.value === null && link.value === 'open' && !reportUnknown.value) return { mark: 'bad', word: 'No headset yet', detail: '' };
      return { mark: 'bad', word: `No data ${formatAge(age)}`, detail: link.value !== 'open' ? 'reconnecting' : reportUnknown.value ? 'service silent' : 'headset silent' };
    case 'waiting':
      return { mark: 'off', word: link.value === 'lost' ? 'Reconnecting' : 'Connecting', detail: '' };
  }
}

export function StatusPill() {
  const { mark, word, detail } = status();
  return (
    <div class={`pill pill-${mark}`} id="status">
      <Shape mark={mark} />
      <span class="pill-word">{word}</span>
      {detail !== '' && <span class="pill-age">{detail}</span>}
      <StatusSpoken />
    </div>
  );
}

/** For screen readers: speaks on change only, without a counting number. */
function StatusSpoken() {
  const words: Record<string, string> = {
    live: 'Signal live',
    delayed: 'Signal delayed',
    lost: 'No data from the headset or the connection',
    waiting: 'Connecting',
  };
  return (
    <span class="spoken" role="status" aria-live="polite">
      {words[freshness.value]}
    </span>
  );
}

export function Banner() {
  const isDemo = demo.value === true || received.value?.state.demo === true;
  return (
    <p class="banner" id="use">
      <strong>Research use only</strong> – not a medical device. Nothing here says how you are: do not change your medicines because of it.
      {isDemo && (
        <span>
          {' '}
          <strong>Demo:</strong> virtual person, no real current.
        </span>
      )}
    </p>
  );
}

export function Notices() {
  const seat = selected.value;
  const state = received.value?.state;
  const message = state?.stream.message ?? '';
  const lost = state?.stream.lost_samples ?? 0;
  const gaps = seat === null ? 0 : (dropped.value[seat.seat] ?? 0);
  const recording = state?.recording;
  return (
    <ul class="facts" aria-label="Stream and recording">
      <li>
        <span>Rate</span> <b>{typeof state?.stream.rate_hz !== 'number' ? '–' : `${state.stream.rate_hz.toFixed(1)} Hz`}</b>
      </li>
      <li>
        <span>Lost samples</span> <b>{lost}</b>
      </li>
      {gaps > 0 && (
        <li>
          <span>Skipped on this page</span> <b>{plural(gaps, 'sample', 'samples')}</b>
        </li>
      )}
      <li class={recording?.status === 'failed' ? 'is-bad' : ''}>
        <Shape mark={reportUnknown.value ? 'off' : recording?.status === 'ok' ? 'good' : recording?.status === 'failed' ? 'bad' : 'off'} />
        <span>{reportUnknown.value ? 'Recording unknown' : recording?.status === 'ok' ? 'Recording' : recording?.status === 'failed' ? 'Recording failed' : 'Not recording'}</span>
        {recording?.status === 'ok' && !reportUnknown.value && recording.seconds !== undefined && <b>{formatClock(recording.seconds)}</b>}
        {recording?.status === 'failed' && !reportUnknown.value && <b>{recording.message}</b>}
      </li>
      {message !== '' && !reportUnknown.value && (
        <li class="fact-message" title={message}>
          <b>{message}</b>
        </li>
      )}
    </ul>
  );
}
