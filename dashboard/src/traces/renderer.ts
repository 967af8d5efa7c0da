// Sweep renderer: filtered samples in a ring, drawn sample by sample behind a playout clock.
//
// Chunks arrive in bursts; drawing on arrival would cap the frame rate at the message rate. So the clock
// maps sample time to this machine's time by the fastest delivery seen and draws PLAYOUT_S behind it.

import { HEADER_BYTES, readHeader } from '../contract';
import { DisplayFilter } from './filters';
import type { Look, RendererReport, ToRenderer } from './protocol';

const PLAYOUT_S = 0.08;
const LONGEST_WINDOW_S = 30;
const LADDER_UV = [5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000];
const ERASE_S = 0.25; // empty stretch ahead of the sweep

type Context = CanvasRenderingContext2D | OffscreenCanvasRenderingContext2D;

export class Renderer {
  private context: Context | null = null;
  private canvas: HTMLCanvasElement | OffscreenCanvas | null = null;
  private width = 1;
  private height = 1;
  private ratio = 1;
  private look: Look = { good: '#000', bad: '#000', stale: '#888', gap: '#ccc' };
  private good: boolean[] = [];
  private stale = false;
  private windowS = 10;
  private gainWanted: number | null = null;
  private gainUv = 50;
  private lowPass = true;
  private calm = false;

  private channels = 0;
  private rateHz = 250;
  private eeg: boolean[] = [];
  private filter: DisplayFilter | null = null;
  private ring = new Float32Array(0); // (length, channels), NaN where a sample is missing
  private length = 0;
  private newest = -1; // index one past the newest sample in the ring
  private oldest = -1;
  private drawn = -1; // index one past the newest sample drawn
  private offsetS: number | null = null; // page time minus sample time of the fastest delivery
  private anchor = { sample: 0, t: 0 };

  private frames = 0;
  private intervals: number[] = [];
  private lastFrameMs = 0;
  private firstChunkMs: number | null = null;
  private firstTraceMs: number | null = null;
  private lastReportMs = 0;
  private lastGainMs = 0;
  private lastCalmMs = 0;
  private redraw = true;

  constructor(private readonly report: (report: RendererReport) => void) {}

  receive(message: ToRenderer): void {
    switch (message.type) {
      case 'canvas':
        this.attach(message.canvas);
        break;
      case 'stream':
        this.openStream(message.channels, message.rateHz, message.eeg);
        break;
      case 'size':
        this.width = Math.max(1, Math.round(message.width * message.ratio));
        this.height = Math.max(1, Math.round(message.height * message.ratio));
        this.ratio = message.ratio;
        if (this.canvas) {
          this.canvas.width = this.width;
          this.canvas.height = this.height;
        }
        this.redraw = true;
        break;
      case 'look':
        this.look = message.look;
        this.redraw = true;
        break;
      case 'view':
        if (message.lowPass !== this.lowPass && this.filter) {
          this.filter = new DisplayFilter(this.channels, this.rateHz, message.lowPass);
        }
        this.lowPass = message.lowPass;
        this.windowS = Math.min(LONGEST_WINDOW_S, message.windowS);
        this.gainWanted = message.gainUv;
        if (message.gainUv !== null) this.gainUv = message.gainUv;
        else this.lastGainMs = 0;
        this.calm = message.calm;
        this.redraw = true;
        break;
      case 'quality':
        if (message.stale !== this.stale || message.good.some((g, c) => g !== this.good[c])) this.redraw = true;
        this.good = message.good;
        this.stale = message.stale;
        break;
      case 'chunk':
        this.take(message.bytes);
        break;
    }
  }

  attach(canvas: HTMLCanvasElement | OffscreenCanvas): void {
    this.canvas = canvas;
    canvas.width = this.width;
    canvas.height = this.height;
    this.context = canvas.getContext('2d') as Context | null;
    this.redraw = true;
  }

  private openStream(channels: number, rateHz: number, eeg: boolean[]): void {
    this.channels = channels;
    this.rateHz = rateHz > 0 ? rateHz : 250;
    this.eeg = eeg;
    this.filter = new DisplayFilter(channels, this.rateHz, this.lowPass);
    this.length = Math.ceil((LONGEST_WINDOW_S + 1) * this.rateHz);
    this.ring = new Float32Array(this.length * channels).fill(NaN);
    this.restart();
  }

  private restart(): void {
    this.newest = this.oldest = this.drawn = -1;
    this.offsetS = null;
    this.filter?.reset();
    this.redraw = true;
  }

  private take(bytes: ArrayBuffer): void {
    const header = readHeader(bytes);
    if (header === null || this.filter === null || header.channels !== this.channels || header.samples === 0) return;
    const nowMs = performance.now();
    this.firstChunkMs ??= nowMs;
    const { firstSample, samples, t0 } = header;
    if (this.newest < 0 || firstSample < this.newest || firstSample - this.newest > this.windowS * this.rateHz) {
      this.restart();
      this.newest = this.oldest = this.drawn = firstSample;
    }
    const { ring, length, channels } = this;
    if (firstSample - this.newest > 0.5 * this.rateHz) this.filter.reset();
    for (let i = this.newest; i < firstSample; i++) {
      const row = (i % length) * channels;
      ring.fill(NaN, row, row + channels);
    }
    const data = new Float32Array(bytes, HEADER_BYTES, samples * channels);
    this.filter.run(data, samples);
    for (let i = 0; i < samples; i++) {
      const row = ((firstSample + i) % length) * channels;
      ring.set(data.subarray(i * channels, (i + 1) * channels), row);
    }
    this.newest = firstSample + samples;
    this.oldest = Math.max(this.oldest, this.newest - length);

    this.anchor = { sample: firstSample, t: t0 };
    const offset = nowMs / 1000 - (t0 + samples / this.rateHz);
    if (this.offsetS === null || offset < this.offsetS || offset > this.offsetS + 1) this.offsetS = offset;
    else this.offsetS += 0.002 * (offset - this.offsetS); // follows the drift of two clocks
  }

  /** One past the newest sample that is due now. */
  private due(nowMs: number): number {
    if (this.offsetS === null) return this.newest;
    const t = nowMs / 1000 - this.offsetS - PLAYOUT_S;
    const due = this.anchor.sample + Math.floor((t - this.anchor.t) * this.rateHz);
    // Never more than a second behind what is here: after a stall the past is not played back.
    return Math.min(this.newest, Math.max(due, this.newest - Math.ceil(this.rateHz)));
  }

  /** Draws what has become due; called once a display frame. */
  frame(nowMs: number): void {
    const context = this.context;
    if (context !== null && this.newest >= 0) {
      if (this.gainWanted === null && nowMs - this.lastGainMs > 1000) {
        this.lastGainMs = nowMs;
        this.chooseGain();
      }
      const due = this.due(nowMs);
      const wait = this.calm && !this.redraw && nowMs - this.lastCalmMs < 1000;
      if (!wait && (this.redraw || due > this.drawn)) {
        this.lastCalmMs = nowMs;
        if (this.redraw || due - this.drawn > this.windowS * this.rateHz * 0.5) this.drawAll(context, due);
        else this.drawNew(context, due);
        this.drawn = Math.max(this.drawn, due);
        this.frames += 1;
        if (this.firstTraceMs === null && this.firstChunkMs !== null) this.firstTraceMs = performance.now() - this.firstChunkMs;
        if (this.lastFrameMs > 0) this.intervals.push(nowMs - this.lastFrameMs);
        if (this.intervals.length > 240) this.intervals.splice(0, this.intervals.length - 240);
        this.lastFrameMs = nowMs;
      }
    }
    if (nowMs - this.lastReportMs >= 500) {
      this.lastReportMs = nowMs;
      this.report(this.summary(nowMs));
    }
  }

  private summary(nowMs: number): RendererReport {
    let sum = 0;
    let n = 0;
    if (nowMs - this.lastFrameMs < 1000) {
      for (let i = this.intervals.length - 1; i >= 0 && sum < 1000; i--, n++) sum += this.intervals[i]!;
    }
    const sorted = [...this.intervals].sort((a, b) => a - b);
    return {
      type: 'report',
      gainUv: this.gainUv,
      frames: this.frames,
      fps: sum > 0 ? (1000 * n) / sum : 0,
      frameP95Ms: sorted[Math.floor(0.95 * (sorted.length - 1))] ?? 0,
      firstTraceMs: this.firstTraceMs,
    };
  }

  /** Horizontal place of a sample, px: fixed to the sample grid, so a lost sample is a hole, not a shift. */
  private x(sample: number): number {
    const span = this.windowS * this.rateHz;
    return ((sample % span) / span) * this.width;
  }

  /** Smallest step of the ladder that keeps 95 % of a middling good channel's samples within its row. */
  private chooseGain(): void {
    const { ring, length, channels } = this;
    const from = Math.max(this.oldest, this.newest - Math.ceil(4 * this.rateHz));
    const step = Math.max(1, Math.floor((this.newest - from) / 200));
    const peaks: number[] = [];
    for (let c = 0; c < channels; c++) {
      if (this.good[c] === false || this.eeg[c] === false) continue;
      const values: number[] = [];
      for (let i = from; i < this.newest; i += step) {
        const v = ring[(i % length) * channels + c]!;
        if (!Number.isNaN(v)) values.push(Math.abs(v));
      }
      values.sort((a, b) => a - b);
      if (values.length > 10) peaks.push(values[Math.floor(0.95 * (values.length - 1))]!);
    }
    if (peaks.length === 0) return;
    peaks.sort((a, b) => a - b);
    const need = 2 * peaks[Math.floor(0.5 * (peaks.length - 1))]!;
    const wanted = LADDER_UV.find((uv) => uv >= need) ?? LADDER_UV[LADDER_UV.length - 1]!;
    // Coming down needs room to spare, or the scale would flicker between two steps.
    if (wanted > this.gainUv || (wanted < this.gainUv && need < 0.8 * wanted)) {
      this.gainUv = wanted;
      this.redraw = true;
    }
  }

  private drawAll(context: Context, due: number): void {
    this.redraw = false;
    context.clearRect(0, 0, this.width, this.height);
    const span = Math.floor((this.windowS - ERASE_S) * this.rateHz);
    this.stroke(context, Math.max(this.oldest, due - span), due);
  }

  private drawNew(context: Context, due: number): void {
    const from = this.drawn;
    const ahead = (due - from) / this.rateHz + ERASE_S;
    const x = this.x(from);
    const wide = (ahead / this.windowS) * this.width;
    context.clearRect(x + 1, 0, wide, this.height);
    if (x + wide > this.width) context.clearRect(0, 0, x + wide - this.width, this.height);
    this.stroke(context, Math.max(this.oldest, from - 1), due);
  }

  /** Draws samples [from, to) of every channel; more than three a pixel are joined through their extremes. */
  private stroke(context: Context, from: number, to: number): void {
    if (to - from < 1) return;
    this.markGaps(context, from, to);
    const { ring, length, channels } = this;
    const rowPx = this.height / channels;
    const pxPerUv = rowPx / this.gainUv;
    const span = this.windowS * this.rateHz;
    const perPx = span / this.width;
    const bucket = perPx > 3 ? Math.max(1, Math.floor(perPx)) : 1;
    context.lineWidth = Math.max(1, 1.15 * this.ratio);
    context.lineJoin = 'round';
    for (const good of [true, false]) {
      context.strokeStyle = this.stale ? this.look.stale : good ? this.look.good : this.look.bad;
      // A large wave may reach into the next row; a bad channel keeps to its own.
      const limit = good ? 0.5 * rowPx + Math.min(rowPx, 40 * this.ratio) : 0.45 * rowPx;
      context.beginPath();
      for (let c = 0; c < channels; c++) {
        if ((this.good[c] !== false) !== good) continue;
        const middle = (c + 0.5) * rowPx;
        let pen = false;
        let lastX = -1;
        const point = (i: number, v: number): void => {
          if (Number.isNaN(v)) {
            pen = false;
            return;
          }
          const x = this.x(i);
          const y = middle - Math.max(-limit, Math.min(limit, v * pxPerUv));
          if (pen && x >= lastX) context.lineTo(x, y);
          else context.moveTo(x, y);
          pen = true;
          lastX = x;
        };
        if (bucket === 1) {
          for (let i = from; i < to; i++) point(i, ring[(i % length) * channels + c]!);
          continue;
        }
        for (let i = from; i < to; ) {
          // Buckets sit on the sample grid, so a redraw gives the same picture.
          const end = Math.min(to, (Math.floor(i / bucket) + 1) * bucket);
          let lowAt = i;
          let highAt = i;
          let low = Infinity;
          let high = -Infinity;
          for (let k = i; k < end; k++) {
            const v = ring[(k % length) * channels + c]!;
            if (v < low) {
              low = v;
              lowAt = k;
            }
            if (v > high) {
              high = v;
              highAt = k;
            }
          }
          if (low > high) point(i, NaN);
          else if (lowAt < highAt) {
            point(lowAt, low);
            point(highAt, high);
          } else {
            point(highAt, high);
            if (lowAt !== highAt) point(lowAt, low);
          }
          i = end;
        }
      }
      context.stroke();
    }
  }

  private markGaps(context: Context, from: number, to: number): void {
    const { ring, length, channels } = this;
    context.fillStyle = this.look.gap;
    for (let i = from; i < to; i++) {
      if (!Number.isNaN(ring[(i % length) * channels]!)) continue;
      let end = i + 1;
      while (end < to && Number.isNaN(ring[(end % length) * channels]!)) end += 1;
      const x = this.x(i);
      const wide = ((end - i) / (this.windowS * this.rateHz)) * this.width;
      context.fillRect(x, 0, Math.min(wide, this.width - x), this.height);
      if (x + wide > this.width) context.fillRect(0, 0, x + wide - this.width, this.height);
      i = end;
    }
  }
}
