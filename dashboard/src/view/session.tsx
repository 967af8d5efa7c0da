// The session: where it stands in plain words, time left, and the three things a person may ask for.
import { useState } from 'preact/hooks';
import type { Live } from '../live';
import { ageNow, link, received, reportAgeS, reportUnknown, selected } from '../model';
import { Age, Unknown } from './age';
import { fieldWord, formatClock, phaseWords } from './format';
import { Shape } from './shape';

const RUNNING = ['screen', 'contact', 'baseline', 'ramp_up', 'on'];

interface Action {
  name: string;
  label: string;
  /** Empty when it can be done now, else the one reason why not. */
  blocked: string;
}

function actions(phase: string, latched: boolean): Action[] {
  const gone = link.value !== 'open' || reportUnknown.value ? 'no connection' : '';
  const stopped = phase === 'stopped' || latched;
  const running = RUNNING.includes(phase);
  return [
    {
      name: 'start',
      label: 'Start session',
      blocked: gone || (stopped ? 'stopped: re-arm first' : running ? 'a session is running' : phase === 'ramp_down' || phase === 'fallback' ? 'output is going down' : ''),
    },
    { name: 'end', label: 'End session', blocked: gone || (running ? '' : 'no session is running') },
    { name: 'rearm', label: 'Re-arm', blocked: gone || (stopped ? '' : 'only needed after a stop') },
  ];
}

export function SessionPanel({ live }: { live: Live }) {
  const [asked, setAsked] = useState<{ name: string; text: string; ok: boolean } | null>(null);
  const state = received.value?.state;
  const seat = selected.value;
  const phase = state?.phase ?? 'off';
  const words = phaseWords(phase);
  const latched = state?.output.latched === true;
  const left = state?.phase_left_s ?? null;
  const list = actions(phase, latched);

  async function ask(action: Action): Promise<void> {
    if (seat === null || action.blocked !== '') return;
    setAsked({ name: action.name, text: `${action.label}: asked…`, ok: true });
    const result = await live.command(seat.seat, action.name);
    setAsked({ name: action.name, text: result.ok ? `${action.label}: accepted` : `${action.label}: ${result.error ?? 'refused'}`, ok: result.ok });
  }

  return (
    <section class="card session" aria-labelledby="session-title">
      <header>
        <h2 id="session-title">Session</h2>
        {left !== null && !reportUnknown.value && (
          <span class="tag" id="time-left">
            {formatClock(left - Math.min(left, reportAgeS.value))} left
          </span>
        )}
      </header>
      {state === undefined || reportUnknown.value ? (
        <p class="big small">
          <Unknown ageS={reportAgeS.value} />
        </p>
      ) : (
        <>
          <p class="phase" id="phase" data-phase={phase}>
            <Shape mark={phase === 'on' ? 'good' : phase === 'stopped' || phase === 'fallback' ? 'bad' : phase === 'off' || phase === 'post' ? 'off' : 'warn'} />
            {words.title}
          </p>
          <p class="plain">{words.plain}</p>
          {state.phase_reason !== '' && <p class="foot">{state.phase_reason}</p>}
        </>
      )}
      <div class="actions">
        {list.map((action) => (
          <div class="action" key={action.name}>
            <button
              type="button"
              class={action.blocked === '' ? 'button is-open' : 'button'}
              aria-disabled={action.blocked !== ''}
              aria-describedby={action.blocked === '' ? undefined : `why-${action.name}`}
              onClick={() => void ask(action)}
            >
              {action.label}
            </button>
            {action.blocked !== '' && (
              <span class="blocked" id={`why-${action.name}`}>
                {action.blocked}
              </span>
            )}
          </div>
        ))}
      </div>
      <p class={asked?.ok === false ? 'answer is-bad' : 'answer'} role="status">
        {asked !== null && (
          <>
            {!asked.ok && <Shape mark="alarm" />} {asked.text}
          </>
        )}
      </p>
    </section>
  );
}

export function WhyPanel() {
  const decision = received.value?.state.decision;
  const age = ageNow(decision?.age_s);
  const limits = decision?.limits ?? [];
  return (
    <section class="card why" aria-labelledby="why-title">
      <header>
        <h2 id="why-title">Why</h2>
        {age !== null && <Age ageS={age} />}
      </header>
      {decision?.sentence === undefined || decision.sentence === '' ? (
        <p class="sentence">No decision yet.</p>
      ) : reportUnknown.value ? (
        <p class="sentence">
          <Unknown ageS={age} />
        </p>
      ) : (
        <p class="sentence" id="why">
          {decision.sentence}
        </p>
      )}
      {limits.length > 0 && !reportUnknown.value && (
        <ul class="limits">
          {limits.map((l) => (
            <li key={`${l.field}-${l.set_by}`}>
              Held by the {l.set_by}: {fieldWord(l.field)} {l.value} {l.unit}
            </li>
          ))}
        </ul>
      )}
    </section>
  );
}
