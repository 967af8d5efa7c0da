// The forms: what there is to ask (fetched once), and how an answer goes to the daemon, which keeps it.
import { signal } from '@preact/signals';
import { pageToken } from './link';

/** One question; `labels` has a word for each whole number from 0 to `highest`, or only for the two ends. */
export interface Question {
  id: string;
  text: string;
  highest: number;
  labels: string[];
  /** From this answer on the questions after it must not be waited for; null: it can wait. */
  urgent: number | null;
}

export interface Form {
  id: string;
  title: string;
  items: Question[];
}

export const forms = signal<Record<string, Form>>({});

let asking = false;

/** Fetches the questions, once; a failure is tried again with the next call. */
export async function fetchForms(): Promise<void> {
  if (asking || Object.keys(forms.value).length > 0) return;
  asking = true;
  try {
    const response = await fetch('/api/v1/forms', { signal: AbortSignal.timeout(5000) });
    if (!response.ok) return;
    const list = (await response.json()) as Form[];
    forms.value = Object.fromEntries(list.map((form) => [form.id, form]));
  } catch {
    // The page asks again with the next state.
  } finally {
    asking = false;
  }
}

/** Sends one filled-in form (null: not asked); '' when it was kept, else why not. */
export async function sendAnswers(seat: string, form: string, values: (number | null)[]): Promise<string> {
  try {
    const response = await fetch(`/api/v1/seats/${encodeURIComponent(seat)}/answers`, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json', Authorization: `Bearer ${pageToken() ?? ''}` },
      body: JSON.stringify({ form, values }),
      cache: 'no-store',
      signal: AbortSignal.timeout(8000),
    });
    if (response.ok) return '';
    const body = (await response.json()) as { detail?: string };
    return body.detail ?? 'it was refused';
  } catch {
    return 'no connection to eegloop; your answers are still here, try again';
  }
}

/** An answer in the middle of a session that must not wait for the questions after it (safety reference, section 4). */
export function cannotWait(question: Question, value: number): boolean {
  return question.urgent !== null && value >= question.urgent;
}
