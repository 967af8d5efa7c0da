// The session: where it stands in plain words, what a person has to do now, and the things a person may ask for.
import { useEffect, useState } from 'preact/hooks';
import type { LoopState } from '../contract';
import type { Live } from '../live';
import { ageNow, link, nowMs, received, refusals, reportAgeS, reportUnknown, selected } from '../model';
import { Age, Unknown } from './age';
import { ContactGuide } from './contact';
import { FormPanel } from './forms';
import { fieldWord, formatClock, formatMa, formatMoment, limitSetter, phaseWords, plainReason, unjudged } from './format';
import type { Mark } from './shape';
import { Shape } from './shape';

const RUNNING = ['screen', 'contact', 'baseline', 'ramp_up', 'on'];
/** A wish that changed nothing for this long is called unanswered. */
const NO_CHANGE_MS = 4000;

const MARKS: Record<string, Mark> = { on: 'good', stopped: 'bad', fallback: 'bad', off: 'off', post: 'off' };

interface Action {
  name: string;
  label: string;
  /** Empty when it can be done now, else the one reason why not. */
  blocked: string;
}

interface Asked {
  label: string;
  atMs: number;
  error: string;
}

/** What docs/session.md lets a person do in each phase; the session itself has the last word. */
function actions(state: LoopState | undefined): Action[] {
  const phase = state?.phase ?? '';
  const zero = state?.output.zero_confirmed === true;
  const gone = link.value !== 'open' || state === undefined || reportUnknown.value ? 'no connection' : '';
  const running = RUNNING.includes(phase);
  const falling = phase === 'ramp_down' || (phase === 'fallback' && !zero) ? 'the output is going down' : '';
  const latched = phase === 'stopped' || phase === 'fallback';
  return [
    {
      name: 'start',
      label: 'Start',
      blocked: gone || falling || (latched ? 're-arm first' : running ? 'one is running' : selected.value?.channels.length === 0 ? 'no headset yet' : notYet(state)),
    },
    { name: 'end', label: 'End', blocked: gone || falling || (running ? '' : 'none is running') },
    {
      name: 'rearm',
      label: 'Re-arm',
      blocked: gone || falling || (!latched ? 'not needed now' : zero ? '' : 'the device has not said zero'),
    },
  ];
}

/** Why no session may begin however the questions are answered; '' if one may. */
function notYet(state: LoopState | undefined): string {
  const forms = state?.forms ?? {};
  if (forms.next_session_s === null) return 'this course is over';
  if ((forms.wait_s ?? 0) > 0) return `from ${formatMoment(forms.next_session_s ?? 0)}`;
  return (forms.findings ?? []).some((f) => f.level !== 'block') ? 'a clinician must speak with you first' : '';
}

/** The lockout clock: when a next session is possible. */
function NextSession({ state }: { state: LoopState }) {
  const forms = state.forms;
  const wait = ageless(forms.wait_s);
  if (RUNNING.includes(state.phase) || state.phase === 'ramp_down' || (forms.next_session_s !== null && wait <= 0)) return null;
  return (
    <p class="plain" id="next-session">
      {forms.next_session_s === null ? (
        'This course is over. Your clinician decides what comes next.'
      ) : (
        <>
          Next session possible from <strong>{formatMoment(forms.next_session_s ?? 0)}</strong> ({waitWords(wait)})
        </>
      )}
    </p>
  );
}

/** What is left of a wait that was so long when the state was written. */
function ageless(waitS: number | null | undefined): number {
  return (waitS ?? 0) - reportAgeS.value;
}

function waitWords(seconds: number): string {
  const minutes = Math.ceil(seconds / 60);
  return minutes < 60 ? `in ${minutes} min` : `in ${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

function answer(asked: Asked | null, seat: string): { text: string; ok: boolean } | null {
  if (asked === null) return null;
  if (asked.error !== '') return { text: `${asked.label} was not possible. ${plainReason(asked.error)}`, ok: false };
  const refusal = refusals.value[seat];
  if (refusal !== undefined && refusal.atMs >= asked.atMs) return { text: `${asked.label} was not possible. ${plainReason(refusal.text)}`, ok: false };
  if (nowMs.value - asked.atMs > NO_CHANGE_MS) return { text: `${asked.label}: nothing has changed yet`, ok: false };
  return { text: `${asked.label}: asked…`, ok: true };
}

export function SessionPanel({ live }: { live: Live }) {
  const [asked, setAsked] = useState<Asked | null>(null);
  const state = received.value?.state;
  const seat = selected.value;
  const phase = state?.phase ?? '';
  const known = state !== undefined && !reportUnknown.value;
  const words = phaseWords(phase, state?.output.zero_confirmed === true, state?.output.blinded);
  const left = state?.phase_left_s ?? null;
  const said = answer(asked, seat?.seat ?? '');
  // The contact sentence names every electrode that is not judged yet; the guide below it says so more calmly.
  const waiting = phase === 'contact' && (state?.quality ?? []).every((q) => unjudged(q.good, q.reasons));
  const due = state?.forms.due ?? [];
  const screening = known && phase === 'screen';
  const asks = known && (screening || due.length > 0 || (state?.forms.open ?? []).length > 0 || (state?.forms.findings ?? []).length > 0);

  useEffect(() => setAsked(null), [phase]); // what was asked for has happened

  async function ask(action: Action): Promise<void> {
    if (seat === null || action.blocked !== '') return;
    const wish = { label: action.label, atMs: performance.now(), error: '' };
    setAsked(wish);
    const result = await live.command(seat.seat, action.name);
    if (!result.ok) setAsked({ ...wish, error: result.error ?? 'refused' });
  }

  return (
    <section class={screening || due.length > 0 || phase === 'contact' || (known && (state.forms.findings ?? []).some((f) => f.level !== 'block')) ? 'card session needs-person' : 'card session'} aria-labelledby="session-title">
      <header>
        <h2 id="session-title" tabIndex={-1}>Session</h2>
        {left !== null && known && (
          <span class="tag" id="time-left">
            next step in {formatClock(left - Math.min(left, reportAgeS.value))}
          </span>
        )}
      </header>
      {!known ? (
        <p class="big small">
          <Unknown ageS={reportAgeS.value} />
        </p>
      ) : (
        <>
          <p class="phase" id="phase" data-phase={phase}>
            <Shape mark={MARKS[phase] ?? 'warn'} />
            {words.title}
          </p>
          <p class="plain">{words.plain}</p>
          {state.phase_reason !== '' && !screening && !waiting && <p class="foot">{plainReason(state.phase_reason)}</p>}
          {phase === 'contact' && <ContactGuide quality={state.quality} />}
          {RUNNING.includes(phase) && !state.demo && <p class="foot">Keep this page open and in view: if nobody watches, the session ends by itself.</p>}
        </>
      )}
      {known && <NextSession state={state} />}
      {asks && (
        <FormPanel onSkip={state?.demo === true ? () => void ask({ name: 'screened', label: 'Answer', blocked: '' }) : null} />
      )}
      {screening && due.length === 0 && (state?.forms.findings ?? []).length === 0 && (
        <button type="button" class="button is-open is-next" id="screened" onClick={() => void ask({ name: 'screened', label: 'Continue', blocked: '' })}>
          Nothing to answer now – continue
        </button>
      )}
      <div class="actions">
        {actions(state).map((action) => (
          <div class="action" key={action.name}>
            <button
              type="button"
              class={action.blocked === '' ? `button is-open${action.name === 'end' ? '' : ' is-next'}` : 'button'}
              id={action.name}
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
      <p class={said?.ok === false ? 'answer is-bad' : 'answer'} role="status">
        {said !== null && (
          <>
            {!said.ok && <Shape mark="alarm" />} {said.text}
          </>
        )}
      </p>
    </section>
  );
}

export function WhyPanel() {
  const state = received.value?.state;
  const decision = state?.decision;
  const age = ageNow(decision?.age_s);
  const limits = decision?.limits ?? [];
  const has = decision?.sentence !== undefined && decision.sentence !== '';
  return (
    <section class="card why" aria-labelledby="why-title">
      <header>
        <h2 id="why-title">{!has || state?.phase === 'on' ? 'Why' : 'Why – the last decision'}</h2>
        {age !== null && <Age ageS={age} />}
      </header>
      {!has ? (
        <p class="sentence" id="no-decision">No decision in this session yet: the first comes when the session listens with the output off.</p>
      ) : reportUnknown.value ? (
        <p class="sentence">
          <Unknown ageS={age} />
        </p>
      ) : (
        <p class="sentence" id="why">
          {plainReason(decision.sentence ?? '')}
        </p>
      )}
      {has && !reportUnknown.value && typeof decision.proposed_ma === 'number' && (
        <p class="limits">
          {decision.blinded === true && 'Blinded study, whether or not it is delivered – the program: '}
          {decision.blinded === true ? 'asked' : 'Asked'} for {formatMa(decision.proposed_ma)}, allowed {formatMa(decision.granted_ma)}
          {limits.map((l) => ` · held by ${limitSetter(l.set_by)}: ${fieldWord(l.field)} ${l.value} ${l.unit}`).join('')}
        </p>
      )}
    </section>
  );
}
