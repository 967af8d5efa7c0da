// What the page knows, and since when: signals that the views read. Times are performance.now() milliseconds.
import { computed, signal } from '@preact/signals';
import type { LoopState, Output, Seat } from './contract';
import type { RendererReport } from './traces/protocol';

/** A state and when it came: every age on the page is the age it was sent with plus the time since. */
export interface Received {
  state: LoopState;
  atMs: number;
  /** How old the daemon's word already was when the web process passed it on, s; Infinity when the daemon is gone. */
  daemonAgeS: number;
}

export type LinkStatus = 'connecting' | 'open' | 'lost' | 'signed-out';

/** Redrawn four times a second, so that ages go on when nothing arrives. */
export const nowMs = signal(performance.now());
export const link = signal<LinkStatus>('connecting');
export const signOutReason = signal<'no-link' | 'used-link'>('no-link');
/** The seats whose headset is known: the daemon tells of each when its stream is there. */
export const streaming = signal<Seat[]>([]);
export const demo = signal<boolean | null>(null);
export const states = signal<Record<string, Received>>({});
export const selectedId = signal<string | null>(null);
/** Page time of the newest chunk, by seat index. Plain, because it changes up to 50 times a second: `nowMs` paces the views. */
export const chunkAt = new Map<number, number>();
export const report = signal<RendererReport | null>(null);
/** The daemon's newest question whether somebody is watching. */
export const challenge = signal('');
/** The last thing a person asked for in vain, by seat: the session's own sentence why, and when it came. */
export const refusals = signal<Record<string, { text: string; atMs: number }>>({});
/** Samples that did not reach this page in time and were dropped, by seat: shown, never hidden. */
export const dropped = signal<Record<string, number>>({});

/** One a seat, so that what depends on it is made anew only when its headset comes. */
const without = new Map<string, Seat>();

function withoutHeadset(name: string, label: string): Seat {
  const known = without.get(name);
  if (known?.label === label) return known;
  const made = { seat: name, index: -1, label, channels: [], kinds: [], sample_rate_hz: 0 };
  without.set(name, made);
  return made;
}

/** Every seat that the daemon reports, also before its headset is there; then what it only told of. */
export const seats = computed<Seat[]>(() => {
  const told = streaming.value;
  const reported = Object.values(states.value).map(({ state }) => told.find((s) => s.seat === state.seat) ?? withoutHeadset(state.seat, state.label));
  return [...reported, ...told.filter((s) => states.value[s.seat] === undefined)];
});

export const selected = computed<Seat | null>(() => seats.value.find((s) => s.seat === selectedId.value) ?? seats.value[0] ?? null);
export const received = computed<Received | null>(() => (selected.value === null ? null : (states.value[selected.value.seat] ?? null)));

/** Older than this, a report is "delayed". */
export const DELAYED_S = 1.2;
/** Older than this, a number is no longer shown: "Unknown". */
export const UNKNOWN_S = 2.0;
/** Older than this, there is "No data". */
export const NO_DATA_S = 5.0;
/** A device that has not confirmed for this long is unknown, whatever it said before. */
export const OUTPUT_UNKNOWN_S = 1.5;
/** A biomarker may come seldom (some once in 5 s), but no more seldom than this. */
export const BIOMARKER_UNKNOWN_S = 10.0;

/** Seconds since the newest state of the selected seat arrived; Infinity if none did. */
const sinceS = computed<number>(() => (received.value === null ? Infinity : Math.max(0, (nowMs.value - received.value.atMs) / 1000)));

/** Seconds since the daemon itself was heard. A web process that lives on without its daemon changes nothing in this. */
export const reportAgeS = computed<number>(() => (received.value === null ? Infinity : received.value.daemonAgeS + sinceS.value));

/** A number's age now, s; null stays null (it never was). */
export function ageNow(ageS: number | null | undefined): number | null {
  return ageS === null || ageS === undefined || !Number.isFinite(ageS) ? null : ageS + sinceS.value;
}

export type Freshness = 'waiting' | 'live' | 'delayed' | 'lost';

/** Age of the newest sample of the selected seat, s: the worst of what the daemon says and what this page sees. */
export const streamAgeS = computed<number | null>(() => {
  const seat = selected.value;
  const now = nowMs.value;
  const said = ageNow(received.value?.state.stream.age_s);
  const at = seat === null ? undefined : chunkAt.get(seat.index);
  const seen = at === undefined ? null : Math.max(0, now - at) / 1000;
  if (said === null && seen === null) return null;
  return Math.max(said ?? 0, seen ?? 0);
});

export const freshness = computed<Freshness>(() => {
  if (received.value === null) return 'waiting';
  const said = received.value.state.stream.status;
  const age = Math.max(streamAgeS.value ?? (said === 'live' ? 0 : Infinity), reportAgeS.value);
  if (age > NO_DATA_S || (said === 'lost' && age > UNKNOWN_S)) return 'lost';
  if (age > DELAYED_S || said !== 'live') return 'delayed';
  return 'live';
});

/** True when numbers derived from the signal must no longer be read as "now". */
export const signalUnknown = computed<boolean>(
  () => reportAgeS.value > UNKNOWN_S || freshness.value === 'lost' || (streamAgeS.value ?? Infinity) > UNKNOWN_S,
);

/** True where a blinded study shows no output: the interlock speaks, and says neither stopped nor a confirmed zero. */
export function outputHidden(output: Partial<Output>, ageS: number | null): boolean {
  const speaks = output.mode === 'armed' || output.mode === 'fallback';
  return output.blinded === true && speaks && typeof output.confirmed_ma !== 'number' && ageS !== null && ageS <= OUTPUT_UNKNOWN_S;
}

/** True when the daemon itself has not been heard: output, phase and decision are unknown too. */
export const reportUnknown = computed<boolean>(() => reportAgeS.value > UNKNOWN_S);

/** Takes in a state frame; parts a daemon leaves out become empty, so that a view never breaks on them. */
export function takeState(list: Partial<LoopState>[], daemonAgeS: number, atMs: number): void {
  // A list names every seat; one that is missing in it is gone. An empty one comes of a daemon that has not spoken yet.
  const next: Record<string, Received> = list.length > 0 ? {} : { ...states.value };
  for (const s of list) {
    if (typeof s.seat !== 'string') continue;
    next[s.seat] = {
      atMs,
      daemonAgeS,
      state: {
        seat: s.seat,
        label: s.label ?? s.seat,
        phase: s.phase ?? 'off',
        block: s.block ?? '',
        phase_reason: s.phase_reason ?? '',
        phase_left_s: s.phase_left_s ?? null,
        demo: s.demo ?? false,
        stream: s.stream ?? {},
        quality: s.quality ?? [],
        biomarkers: s.biomarkers ?? [],
        target: s.target ?? {},
        output: s.output ?? {},
        decision: s.decision ?? {},
        recording: s.recording ?? {},
        alarms: s.alarms ?? [],
        forms: s.forms ?? {},
      },
    };
  }
  states.value = next;
}
