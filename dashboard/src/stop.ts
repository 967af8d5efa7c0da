// STOP: sent by every road at once, repeated until the device's confirmation is in hand, and reported truthfully.
import { signal } from '@preact/signals';
import type { StopResult } from './contract';
import { freshId } from './ids';
import { stopToken } from './link';
import { states } from './model';

export type StopStage = 'idle' | 'stopping' | 'stopped' | 'unconfirmed';

export interface StopState {
  stage: StopStage;
  /** performance.now() of the (latest) press. */
  pressedMs: number;
  /** Wall-clock time of the confirmation, for the words "at 14:02:11". */
  confirmedAt: Date | null;
}

/** After this long without a confirmation the person is told to help themselves; tries go on. */
const UNCONFIRMED_MS = 3000;
const REPEAT_MS = 500;
/** Once the person has been told, the page asks on, but less often. */
const SLOW_REPEAT_MS = 2000;
/** Tries end after this long without success; another press starts them again. */
const GIVE_UP_MS = 120_000;

/** Half of the last digit shown: less than this is shown as 0.00 mA. */
const ZERO_MA = 0.005;

const IDLE: StopState = { stage: 'idle', pressedMs: 0, confirmedAt: null };

export const stops = signal<Record<string, StopState>>({});

export function stopOf(seat: string): StopState {
  return stops.value[seat] ?? IDLE;
}

/** The key under which a page without any seat yet keeps its STOP. */
export const NO_SEAT = '';

export class Stop {
  private timers = new Map<string, number>();
  private ids = new Map<string, string>();
  private sentMs = new Map<string, number>();
  /** Seats whose session was seen stopped after the press. */
  private latched = new Set<string>();

  constructor(private readonly sendSocket: (message: object) => boolean) {
    states.subscribe(() => this.watchStates());
  }

  /** Stops a seat. Never waits, never asks, never refuses; a repeat is sent again. */
  press(seat: string): void {
    this.set(seat, { stage: stopOf(seat).stage === 'unconfirmed' ? 'unconfirmed' : 'stopping', pressedMs: performance.now(), confirmedAt: null });
    this.latched.delete(seat);
    this.ids.set(seat, freshId());
    clearInterval(this.timers.get(seat));
    this.timers.set(
      seat,
      setInterval(() => this.repeat(seat), REPEAT_MS),
    );
    this.send(seat);
  }

  /** The link is back: say every unconfirmed STOP again. */
  opened(): void {
    for (const seat of this.timers.keys()) this.send(seat);
  }

  take(result: StopResult): void {
    const now = stopOf(result.seat);
    if (now.stage === 'idle') return;
    if (result.id !== undefined && result.id !== this.ids.get(result.seat)) return;
    if (result.confirmed === true && result.output_ma !== null && Math.abs(result.output_ma) <= ZERO_MA) this.confirm(result.seat);
    else if (result.confirmed === false && now.stage !== 'stopped') this.set(result.seat, { ...now, stage: 'unconfirmed' });
  }

  private set(seat: string, state: StopState): void {
    stops.value = { ...stops.value, [seat]: state };
  }

  private confirm(seat: string): void {
    clearInterval(this.timers.get(seat));
    this.timers.delete(seat);
    const now = stopOf(seat);
    if (now.stage !== 'stopped') this.set(seat, { ...now, stage: 'stopped', confirmedAt: new Date() });
  }

  private repeat(seat: string): void {
    const now = stopOf(seat);
    const since = performance.now() - now.pressedMs;
    if (now.stage === 'stopping' && since >= UNCONFIRMED_MS) this.set(seat, { ...now, stage: 'unconfirmed' });
    if (since > GIVE_UP_MS) {
      clearInterval(this.timers.get(seat));
      this.timers.delete(seat);
      return;
    }
    const pause = stopOf(seat).stage === 'unconfirmed' ? SLOW_REPEAT_MS : 0;
    if (performance.now() - (this.sentMs.get(seat) ?? 0) >= pause) this.send(seat);
  }

  private send(seat: string): void {
    const id = this.ids.get(seat) ?? '';
    this.sentMs.set(seat, performance.now());
    const sent = this.sendSocket({ type: 'stop', seat, id });
    void this.post(seat, id, sent);
  }

  private async post(seat: string, id: string, sent: boolean): Promise<void> {
    try {
      const result = seat === NO_SEAT ? await stopEverySeat(id) : await stopSeat(seat, id);
      if (this.ids.get(seat) !== id) return;
      if (result !== null) this.take({ ...result, seat, id });
      // Refused on the one road and shut on the other: no use in waiting before the person is told.
      else if (!sent && stopOf(seat).stage === 'stopping') this.set(seat, { ...stopOf(seat), stage: 'unconfirmed' });
    } catch {
      // No answer is no confirmation; the next try is half a second away.
    }
  }

  /** A state that is younger than the press and says "latched, zero, confirmed" is the device's word too. */
  private watchStates(): void {
    for (const [seat, stop] of Object.entries(stops.value)) {
      const received = states.value[seat];
      if (received === undefined) continue;
      const { output, phase } = received.state;
      if (phase === 'stopped' && received.atMs > stop.pressedMs) this.latched.add(seat);
      if (stop.stage === 'stopped') {
        // Somebody re-armed, or current flows again: the report of the last STOP is history.
        const flows = (output.confirmed_ma ?? 0) > ZERO_MA && received.atMs > stop.pressedMs + 1500;
        if (flows || (phase !== 'stopped' && phase !== 'unknown' && this.latched.has(seat))) this.set(seat, IDLE);
      } else if (stop.stage !== 'idle') {
        const saidMs = received.atMs - 1000 * (output.age_s ?? Infinity);
        if (output.latched === true && output.zero_confirmed === true && output.confirmed_ma === 0 && saidMs > stop.pressedMs) this.confirm(seat);
      }
    }
  }
}

async function stopSeat(seat: string, id: string): Promise<StopResult | null> {
  const response = await fetch(`/api/v1/seats/${encodeURIComponent(seat)}/stop`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json', 'X-Stop-Token': stopToken() ?? '' },
    body: JSON.stringify({ id }),
    cache: 'no-store',
    keepalive: true,
    signal: AbortSignal.timeout(4000),
  });
  return response.ok ? ((await response.json()) as StopResult) : null;
}

/** A page that was never told its seats (not signed in) stops all of them; confirmed only if each one is. */
async function stopEverySeat(id: string): Promise<StopResult | null> {
  const health = await fetch('/api/v1/health', { cache: 'no-store', signal: AbortSignal.timeout(2000) });
  const names = ((await health.json()) as { seats: { seat: string }[] }).seats.map((s) => s.seat);
  const results = await Promise.all(names.map((name) => stopSeat(name, id)));
  if (results.length === 0 || results.some((r) => r === null)) return null;
  const open = results.find((r) => r!.confirmed !== true);
  return open ?? results[0]!;
}
