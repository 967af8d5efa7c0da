// Every seat at a glance, each with the worst that is true of it now: who looks at one person must not miss another.
import type { Received } from '../model';
import { DELAYED_S, nowMs, outputHidden, OUTPUT_UNKNOWN_S, seats, selected, selectedId, states, UNKNOWN_S } from '../model';
import { formatMa, phaseWords } from './format';
import type { Mark } from './shape';
import { Shape } from './shape';

/** "urgent" outranks everything; "attention" is what somebody should see to; "calm" is the rest. */
type Need = 'urgent' | 'attention' | 'calm';

interface Glance {
  need: Need;
  mark: Mark;
  words: string;
  /** What the device confirms; '' where the words say that it is not known. */
  output: string;
}

/** The worst that is true of a seat now, in a few words. */
function glance(got: Received | undefined): Glance {
  if (got === undefined) return { need: 'calm', mark: 'off', words: 'No report yet', output: '' };
  const { state } = got;
  const sinceS = Math.max(0, (nowMs.value - got.atMs) / 1000);
  if (got.daemonAgeS + sinceS > UNKNOWN_S) return { need: 'urgent', mark: 'alarm', words: 'Unknown: no report', output: '' };
  if (state.alarms.some((a) => a.id === 'left_out')) return { need: 'attention', mark: 'warn', words: 'Not running', output: '' };
  const ma = state.output.confirmed_ma;
  const outputAgeS = (state.output.age_s ?? Infinity) + sinceS;
  const hidden = outputHidden(state.output, outputAgeS);
  const known = hidden || (typeof ma === 'number' && outputAgeS <= OUTPUT_UNKNOWN_S);
  const output = hidden ? 'blinded' : known ? formatMa(ma!) : 'output unknown';
  const streamS = (state.stream.age_s ?? Infinity) + sinceS;
  const stopped = state.phase === 'stopped' || state.phase === 'fallback';
  const title = state.phase === 'on' ? 'Running' : phaseWords(state.phase, state.output.zero_confirmed === true).title;
  if (state.alarms.some((a) => a.priority === 'high')) return { need: 'urgent', mark: 'alarm', words: stopped ? 'Urgent: stopped' : 'Urgent', output };
  if (!known && state.phase !== 'off') return { need: 'urgent', mark: 'alarm', words: 'Output unknown', output: '' };
  if (state.stream.status === 'lost' || streamS > UNKNOWN_S) return { need: 'attention', mark: 'bad', words: Number.isFinite(streamS) ? 'No data' : 'No headset yet', output };
  if (state.alarms.some((a) => a.priority === 'medium') || stopped) return { need: 'attention', mark: 'warn', words: title, output };
  if (state.stream.status !== 'live' || streamS > DELAYED_S) return { need: 'calm', mark: 'warn', words: 'Delayed', output };
  return { need: 'calm', mark: state.phase === 'on' ? 'good' : 'off', words: title, output };
}

export function SeatList() {
  return (
    <nav class="seats" aria-label="Seats">
      <ul>
        {seats.value.map((s) => {
          const { need, mark, words, output } = glance(states.value[s.seat]);
          return (
            <li key={s.seat}>
              <button type="button" class={`seat is-${need}`} data-seat={s.seat} aria-current={s.seat === selected.value?.seat ? 'true' : undefined} onClick={() => (selectedId.value = s.seat)}>
                <span class="seat-name">{s.label}</span>
                <small>
                  <span>
                    <Shape mark={mark} /> {words}
                  </span>
                  {output !== '' && <span class="seat-output">{output}</span>}
                </small>
              </button>
            </li>
          );
        })}
      </ul>
    </nav>
  );
}

/** Urgent at a seat that is not the one on the screen: said aloud too, and one press away. */
export function OtherSeats() {
  const urgent = seats.value.filter((s) => s.seat !== selected.value?.seat && glance(states.value[s.seat]).need === 'urgent');
  return (
    <div class="alarms" aria-live="polite" aria-label="Urgent at other seats" role="region">
      {urgent.length > 0 && (
        <div class="alarm alarm-high others">
          <Shape mark="alarm" />
          <p>
            <strong>Urgent at {urgent.length === 1 ? 'another seat' : `${urgent.length} other seats`}:</strong>
          </p>
          {urgent.map((s) => (
            <button type="button" class="button is-open" key={s.seat} onClick={() => (selectedId.value = s.seat)}>
              {s.label}
            </button>
          ))}
        </div>
      )}
    </div>
  );
}
