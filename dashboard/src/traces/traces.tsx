// The trace card: canvas, channel labels, scale, and the few controls of the display.
import { signal } from '@preact/signals';
import { useEffect, useRef, useState } from 'preact/hooks';
import type { ChannelQuality, ChunkHeader, Seat } from '../contract';
import { freshness, received, report, selected } from '../model';
import { countChunk, resetCounts, setRenderer } from '../probe';
import { contactWord, reasonWord, unjudged } from '../view/format';
import { Shape } from '../view/shape';
import { useSize } from '../view/width';
import { HIGH_PASS_HZ, LOW_PASS_HZ } from './filters';
import type { Look, RendererReport, ToRenderer } from './protocol';
import { Renderer } from './renderer';

const GAINS_UV = [10, 20, 50, 100, 200, 500, 1000];
const WINDOWS_S = [5, 10, 20];

const windowS = signal(10);
const gainUv = signal<number | null>(null);
const lowPass = signal(true);

/** Where chunks of the selected seat go at the moment; none before the canvas is there. */
let sink: ((message: ToRenderer, transfer?: Transferable[]) => void) | null = null;
/** Chunks that came before the canvas was there (half a second of them at most). */
let early: ArrayBuffer[] = [];

export function takeChunk(header: ChunkHeader, bytes: ArrayBuffer): void {
  const seat = selected.value;
  if (seat === null || header.seatIndex !== seat.index) return;
  countChunk(header, bytes);
  if (sink === null) {
    early.push(bytes);
    if (early.length > 25) early.shift();
  } else {
    sink({ type: 'chunk', bytes }, [bytes]);
  }
}

function startWorker(canvas: HTMLCanvasElement, failed: () => void): (() => void) | null {
  if (typeof Worker === 'undefined' || typeof canvas.transferControlToOffscreen !== 'function') return null;
  let worker: Worker;
  try {
    worker = new Worker(new URL('./worker.ts', import.meta.url), { type: 'module', name: 'traces' });
  } catch {
    return null;
  }
  worker.onmessage = (event: MessageEvent<RendererReport | { type: 'ready' }>) => {
    if (event.data.type === 'report') report.value = event.data;
  };
  worker.onerror = (event) => {
    event.preventDefault();
    failed();
  };
  const offscreen = canvas.transferControlToOffscreen();
  sink = (message, transfer) => worker.postMessage(message, transfer ?? []);
  sink({ type: 'canvas', canvas: offscreen }, [offscreen]);
  setRenderer('worker');
  return () => worker.terminate();
}

function startHere(canvas: HTMLCanvasElement): () => void {
  const renderer = new Renderer((r) => {
    report.value = r;
  });
  renderer.attach(canvas);
  sink = (message) => renderer.receive(message);
  let frame = 0;
  const tick = (ms: number): void => {
    renderer.frame(ms);
    frame = requestAnimationFrame(tick);
  };
  frame = requestAnimationFrame(tick);
  setRenderer('main');
  return () => cancelAnimationFrame(frame);
}

function look(element: HTMLElement): Look {
  const style = getComputedStyle(element);
  const color = (name: string): string => style.getPropertyValue(name).trim();
  return { good: color('--trace'), bad: color('--trace-bad'), stale: color('--trace-stale'), gap: color('--trace-gap') };
}

function Canvas({ seat, onScreen, forced }: { seat: Seat; onScreen: boolean; forced: () => void }) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const [box, size] = useSize<HTMLDivElement>();
  const quality = received.value?.state.quality ?? [];
  const stale = freshness.value !== 'live' || paused(quality);
  const good = seat.channels.map((label) => quality.find((q) => q.channel === label)?.good ?? true);
  const goodKey = good.map(Number).join('');

  useEffect(() => {
    const element = canvas.current!;
    resetCounts();
    const stop = (onScreen ? null : startWorker(element, forced)) ?? startHere(element);
    sink!({ type: 'stream', channels: seat.channels.length, rateHz: seat.sample_rate_hz, eeg: seat.kinds.map((k) => k === 'eeg') });
    for (const bytes of early.splice(0)) sink!({ type: 'chunk', bytes }, [bytes]);
    const scheme = matchMedia('(prefers-color-scheme: dark)');
    const repaint = (): void => sink?.({ type: 'look', look: look(element) });
    repaint();
    scheme.addEventListener('change', repaint);
    return () => {
      scheme.removeEventListener('change', repaint);
      sink = null;
      stop();
    };
  }, []);

  useEffect(() => {
    if (size.width > 0) sink?.({ type: 'size', width: size.width, height: size.height, ratio: Math.min(2, devicePixelRatio || 1) });
  }, [size.width, size.height]);

  useEffect(() => {
    const calm = matchMedia('(prefers-reduced-motion: reduce)').matches;
    sink?.({ type: 'view', windowS: windowS.value, gainUv: gainUv.value, lowPass: lowPass.value, calm });
  }, [windowS.value, gainUv.value, lowPass.value]);

  useEffect(() => {
    sink?.({ type: 'quality', good, stale });
  }, [goodKey, stale]);

  return (
    <div class="plot-canvas" ref={box}>
      <canvas ref={canvas} aria-hidden="true" />
    </div>
  );
}

/** True while no channel is judged: during stimulation, and until the filters have settled after it. */
function paused(quality: ChannelQuality[]): boolean {
  return quality.length > 0 && quality.every((q) => unjudged(q.good, q.reasons));
}

function Label({ name, quality }: { name: string; quality: ChannelQuality | undefined }) {
  const bad = quality?.good === false && !unjudged(quality.good, quality.reasons);
  const why = bad ? (quality.reasons.length > 0 ? quality.reasons.map(reasonWord).join(', ') : 'bad') : '';
  return (
    <li class={bad ? 'label is-bad' : 'label'}>
      <b title={quality === undefined ? '' : contactWord(quality)}>{name}</b>
      {bad && (
        <span class="label-why">
          <Shape mark="bad" /> {why}
        </span>
      )}
    </li>
  );
}

export function TracePanel() {
  const seat = selected.value;
  const [onScreen, setOnScreen] = useState(false);
  const state = received.value?.state;
  const gain = report.value?.gainUv ?? 50;
  const channels = seat?.channels ?? [];
  const stale = freshness.value !== 'live';
  const quality = state?.quality ?? [];
  const bad = quality.filter((q) => !q.good);
  const calm = paused(quality);
  const worst = quality.find((q) => q.worst === true);
  return (
    <section
      class={`card traces${stale ? ' is-stale' : ''}${channels.length > 16 ? ' is-dense' : ''}`}
      style={{ '--channels': String(Math.max(1, channels.length)) }}
      aria-labelledby="traces-title"
    >
      <header>
        <h2 id="traces-title">EEG</h2>
        {calm && !stale && (
          <span class="tag tag-stimulate">
            {quality.some((q) => q.reasons.includes('stimulation')) ? (
              <>
                <Shape mark="stimulate" /> {state?.output.blinded === true ? 'program above zero: signal not shown, blinded study' : 'stimulation: signal not judged'}
              </>
            ) : (
              <>
                <Shape mark="warn" /> filters settling: signal not judged
              </>
            )}
          </span>
        )}
        {worst !== undefined && !calm && !stale && (
          <span class="tag worst-contact">
            <Shape mark="bad" /> worst contact: {worst.channel} ({contactWord(worst)})
          </span>
        )}
        <div class="tools">
          <label class="select">
            <span>Window</span>
            <select value={windowS.value} onChange={(e) => (windowS.value = Number(e.currentTarget.value))}>
              {WINDOWS_S.map((s) => (
                <option key={s} value={s}>
                  {s} s
                </option>
              ))}
            </select>
          </label>
          <label class="select">
            <span>Scale</span>
            <select value={gainUv.value ?? ''} onChange={(e) => (gainUv.value = e.currentTarget.value === '' ? null : Number(e.currentTarget.value))}>
              <option value="">Auto</option>
              {GAINS_UV.map((uv) => (
                <option key={uv} value={uv}>
                  {uv} µV
                </option>
              ))}
            </select>
          </label>
          <label class="check">
            <input type="checkbox" checked={lowPass.value} onChange={(e) => (lowPass.value = e.currentTarget.checked)} />
            <span>Smooth</span>
          </label>
        </div>
      </header>
      <p class="spoken" role="status">
        {channels.length > 0 && !calm && (bad.length === 0 ? `${channels.length} channels, all good` : `Bad channels: ${bad.map((q) => q.channel).join(', ')}`)}
      </p>
      <div class="plot">
        {seat === null || channels.length === 0 ? (
          <p class="plain plot-empty">Waiting for the headset…</p>
        ) : (
          <>
            <ul class="labels" aria-label="Channels">
              {channels.map((name) => (
                <Label key={name} name={name} quality={state?.quality.find((q) => q.channel === name)} />
              ))}
            </ul>
            <div class="plot-area" style={{ '--seconds': String(windowS.value) }}>
              <Canvas key={`${seat.seat}/${seat.channels.join()}/${seat.sample_rate_hz}/${onScreen}`} seat={seat} onScreen={onScreen} forced={() => setOnScreen(true)} />
              {stale && <span class="plot-stale">not live</span>}
            </div>
          </>
        )}
      </div>
      {channels.length > 0 && (
        <div class="plot-axis">
          <span class="scale-bar">
            <i aria-hidden="true" />
            {gain} µV
          </span>
          <span class="axis-words">
            sweep {windowS.value} s, one line a second · shown {HIGH_PASS_HZ}–{lowPass.value ? `${LOW_PASS_HZ} Hz` : 'all'} (display only)
          </span>
        </div>
      )}
    </section>
  );
}
