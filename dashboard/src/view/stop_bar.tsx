// The STOP bar: first in the document, on every screen, and the only thing here that never asks anything.
import type { Stop } from '../stop';
import { NO_SEAT, stopOf, stops } from '../stop';
import { received, reportUnknown, seats, selected } from '../model';
import { Shape } from './shape';

export function StopBar({ stop }: { stop: Stop }) {
  const seat = selected.value;
  const id = seat?.seat ?? NO_SEAT;
  void stops.value;
  const state = stopOf(id);
  const whose = seats.value.length > 1 && seat !== null ? ` – ${seat.label}` : '';
  const latched = received.value?.state.phase === 'stopped' && !reportUnknown.value;
  return (
    <section class={`stopbar stop-${state.stage}`} aria-label="Stop">
      <button type="button" class="stop" id="stop" onClick={() => stop.press(id)} aria-keyshortcuts="Escape">
        <svg viewBox="0 0 24 24" width="26" height="26" aria-hidden="true" focusable="false">
          <path d="M7.600 1.500h8.800L22.500 7.600v8.800l-6.100 6.100H7.600l-6.100-6.100V7.600Z" />
        </svg>
        <span class="stop-words">
          <strong>STOP</strong>
          <span class="stop-small">{whose === '' ? 'stimulation' : `stimulation${whose}`}</span>
        </span>
        <kbd aria-hidden="true">Esc</kbd>
      </button>
      <div class="stop-report" role="alert" aria-atomic="true">
        {state.stage === 'stopping' && (
          <p>
            <Shape mark="warn" /> <strong>Stopping…</strong> waiting for the device
          </p>
        )}
        {state.stage === 'stopped' && (
          <p>
            <Shape mark="good" /> <strong>Stopped – confirmed 0.00 mA</strong>
            {state.confirmedAt !== null && <> at {state.confirmedAt.toLocaleTimeString([], { hour12: false })}</>}
          </p>
        )}
        {state.stage === 'unconfirmed' && (
          <p>
            <Shape mark="alarm" /> <strong>NOT CONFIRMED</strong> – take the headset off, switch the stimulator off
          </p>
        )}
      </div>
      {state.stage === 'idle' && latched && (
        <p class="stop-note">
          <Shape mark="off" /> Stopped and locked
        </p>
      )}
    </section>
  );
}
