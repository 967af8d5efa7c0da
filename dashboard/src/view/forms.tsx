// A form, one question at a time, with buttons that a thumb hits; and what the answers forbid, in plain words.
import { useEffect, useRef, useState } from 'preact/hooks';
import type { FormFinding } from '../contract';
import type { Form, Question } from '../forms';
import { cannotWait, fetchForms, forms, sendAnswers } from '../forms';
import { received, selected } from '../model';
import '../forms.css';
import { Shape } from './shape';

export function FormPanel({ onSkip }: { onSkip: (() => void) | null }) {
  const [chosen, setChosen] = useState('');
  const state = received.value?.state;
  const seat = selected.value;
  const due = state?.forms.due ?? [];
  const open = state?.forms.open ?? [];
  const id = open.includes(chosen) && due.length === 0 ? chosen : (due[0] ?? '');
  const form = forms.value[id];

  useEffect(() => {
    void fetchForms();
  }, [id]);
  if (seat === null || state === undefined) return null;
  return (
    <>
      <p class="spoken" id="form-news" role="status">
        {form !== undefined && due.length > 0 && chosen !== id ? `Please answer: ${form.title}.` : ''}
      </p>
      <Findings findings={state.forms.findings ?? []} />
      {form !== undefined && <Asked key={`${seat.seat} ${id}`} seat={seat.seat} form={form} left={due.length} done={() => setChosen('')} opened={id === chosen} mayClose={due.length === 0} />}
      {form !== undefined && due.length > 0 && onSkip !== null && (
        <p class="foot">
          Nobody wears this demo's headset: its virtual person answers by itself within two minutes.{' '}
          <button type="button" class="link" id="virtual" onClick={onSkip}>
            Let it answer now
          </button>
        </p>
      )}
      {form === undefined &&
        open.map((name) => (
          <button type="button" class="button is-open again" key={name} data-form={name} onClick={() => setChosen(name)}>
            {name === 'during' ? 'Say how it feels' : name === 'after' ? 'Report on the session' : `Answer again: ${forms.value[name]?.title ?? name}`}
          </button>
        ))}
      {state.forms.virtual === true && due.length === 0 && <p class="foot">The forms were answered by the virtual person of this demo.</p>}
    </>
  );
}

/** What stands in the way of a session; the questions that are still to come need no words of their own. */
function Findings({ findings }: { findings: FormFinding[] }) {
  const told = findings.filter((f) => f.level !== 'block' || f.item !== '' || f.form === 'lockout');
  if (told.length === 0) return null;
  return (
    <ul class="findings">
      {told.map((f) => (
        <li key={`${f.form} ${f.item}`} class={f.level === 'block' ? 'finding' : 'finding is-bad'}>
          <Shape mark={f.level === 'block' ? 'warn' : 'alarm'} />
          {f.text}
        </li>
      ))}
    </ul>
  );
}

/** Where a keyboard goes on once a form is gone: the next question, the button that opens this form, or the card's title. */
function focusAfter(id: string): void {
  if (document.activeElement !== null && document.activeElement !== document.body) return;
  const next = ['#form-question', `.again[data-form="${id}"]`, '#session-title'].map((where) => document.querySelector<HTMLElement>(where));
  next.find((element) => element !== null)?.focus({ preventScroll: true });
}

interface AskedProps {
  seat: string;
  form: Form;
  /** How many forms are due, this one included; 0 where a person opened it without being asked. */
  left: number;
  done: () => void;
  /** A person at this page asked for it: only then it takes the focus when it appears (STOP must not lose it). */
  opened: boolean;
  mayClose: boolean;
}

function Asked({ seat, form, left, done, opened, mayClose }: AskedProps) {
  const [values, setValues] = useState<(number | null)[]>([]);
  const [at, setAt] = useState(0);
  const [sending, setSending] = useState(false);
  const [error, setError] = useState('');
  const question = useRef<HTMLParagraphElement>(null);
  const section = useRef<HTMLElement>(null);
  const touched = useRef(opened);
  const item = form.items[Math.min(at, form.items.length - 1)];

  useEffect(() => {
    if (at > 0 || touched.current) question.current?.focus({ preventScroll: true });
  }, [at]);
  useEffect(() => {
    const here = section.current;
    return () => {
      if (touched.current || here?.contains(document.activeElement) === true) setTimeout(() => focusAfter(form.id), 0);
    };
  }, []);
  if (item === undefined) return null;

  async function send(given: (number | null)[]): Promise<void> {
    touched.current = true; // the choice that was pressed is disabled meanwhile and loses the focus
    setSending(true);
    setError('');
    const all = form.items.map((_, i) => given[i] ?? null);
    const refused = await sendAnswers(seat, form.id, all);
    setSending(false);
    setError(refused);
    if (refused !== '') return;
    const open = all.indexOf(null); // what could not wait is kept; the rest is asked now
    if (open < 0) done();
    else setAt(open);
  }

  function take(asked: Question, value: number): void {
    const next = [...values];
    next[at] = value;
    setValues(next);
    if (cannotWait(asked, value)) void send(next);
    else if (at + 1 < form.items.length) setAt(at + 1);
    else void send(next);
  }

  return (
    <section class="form" ref={section} aria-labelledby="form-title" data-form={form.id} data-question={item.id}>
      <header class="form-head">
        <h3 id="form-title">{form.title}</h3>
        <span class="tag">
          {at + 1} of {form.items.length}
          {left > 1 ? ` · ${left - 1} more ${left === 2 ? 'form' : 'forms'}` : ''}
        </span>
      </header>
      <p class="question" id="form-question" tabIndex={-1} ref={question}>
        {item.text}
      </p>
      <Choices item={item} value={values[at] ?? null} disabled={sending} choose={(value) => take(item, value)} />
      <div class="form-foot">
        {at > 0 && (
          <button type="button" class="link" id="back" disabled={sending} onClick={() => setAt(at - 1)}>
            Back
          </button>
        )}
        {mayClose && (
          <button type="button" class="link" id="close-form" disabled={sending} onClick={done}>
            Close without answering
          </button>
        )}
        <p class={error === '' ? 'foot' : 'foot is-bad'} role="status">
          {error !== '' ? (
            <>
              <Shape mark="alarm" /> Not kept: {error}.{' '}
              <button type="button" class="link" onClick={() => void send(values)}>
                Send again
              </button>
            </>
          ) : sending ? (
            'Keeping your answers…'
          ) : form.id === 'after' || form.id === 'during' ? (
            'As it is now. There is no wrong answer.'
          ) : (
            'Not sure? End the session and ask your clinician. Do not guess.'
          )}
        </p>
      </div>
    </section>
  );
}

interface ChoicesProps {
  item: Question;
  value: number | null;
  disabled: boolean;
  choose: (value: number) => void;
}

function Choices({ item, value, disabled, choose }: ChoicesProps) {
  const worded = item.labels.length === item.highest + 1;
  const numbers = Array.from({ length: item.highest + 1 }, (_, i) => i);
  return (
    <div class={worded ? (item.highest === 1 ? 'choices is-pair' : 'choices is-list') : 'choices is-scale'} role="group" aria-labelledby="form-question">
      {numbers.map((n) => (
        <button
          type="button"
          class={value === n ? 'choice is-chosen' : 'choice'}
          key={n}
          data-value={n}
          disabled={disabled}
          aria-label={worded ? undefined : scaleWord(item, n)}
          onClick={() => choose(n)}
        >
          {worded ? item.labels[n] : n}
        </button>
      ))}
      {!worded && (
        <p class="ends" aria-hidden="true">
          <span>0 = {item.labels[0]}</span>
          <span>
            {item.highest} = {item.labels[item.labels.length - 1]}
          </span>
        </p>
      )}
    </div>
  );
}

function scaleWord(item: Question, n: number): string {
  if (n === 0) return `0, ${item.labels[0] ?? ''}`;
  return n === item.highest ? `${n}, ${item.labels[item.labels.length - 1] ?? ''}` : String(n);
}
