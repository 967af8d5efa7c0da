// The display's own filters, one state a channel: they never touch a number on the page, only the drawn line.

/** High-pass corner of the drawn line, Hz: takes the electrode's offset and drift away. */
export const HIGH_PASS_HZ = 0.5;
/** Optional low-pass corner of the drawn line, Hz. */
export const LOW_PASS_HZ = 40;

/** One-pole high pass, then (if wanted and possible at this rate) a second-order Butterworth low pass. */
export class DisplayFilter {
  private readonly decay: number;
  private readonly b0: number = 1;
  private readonly a1: number = 0;
  private readonly a2: number = 0;
  private readonly lowPass: boolean;
  private readonly state: Float64Array; // a channel: [last input, last high-passed, z1, z2]
  private started = false;

  constructor(
    private readonly channels: number,
    rateHz: number,
    lowPass: boolean,
  ) {
    this.decay = Math.exp((-2 * Math.PI * HIGH_PASS_HZ) / rateHz);
    this.lowPass = lowPass && rateHz > 2.5 * LOW_PASS_HZ;
    if (this.lowPass) {
      const k = Math.tan((Math.PI * LOW_PASS_HZ) / rateHz); // bilinear transform, pre-warped
      const norm = 1 / (1 + Math.SQRT2 * k + k * k);
      this.b0 = k * k * norm;
      this.a1 = 2 * (k * k - 1) * norm;
      this.a2 = (1 - Math.SQRT2 * k + k * k) * norm;
    }
    this.state = new Float64Array(4 * channels);
  }

  /** Forgets the past: the next sample is taken as the offset. */
  reset(): void {
    this.started = false;
  }

  /** Filters `samples` rows of `channels` columns in place. */
  run(data: Float32Array, samples: number): void {
    const { channels, state, decay, b0, a1, a2 } = this;
    if (!this.started) {
      state.fill(0);
      for (let c = 0; c < channels; c++) state[4 * c] = Number.isFinite(data[c]) ? data[c]! : 0;
      this.started = true;
    }
    for (let c = 0; c < channels; c++) {
      const s = 4 * c;
      let last = state[s]!;
      let high = state[s + 1]!;
      let z1 = state[s + 2]!;
      let z2 = state[s + 3]!;
      for (let i = 0, k = c; i < samples; i++, k += channels) {
        const raw = data[k]!;
        const x = Number.isFinite(raw) ? raw : last;
        high = decay * (high + x - last);
        last = x;
        let y = high;
        if (this.lowPass) {
          y = b0 * high + z1;
          z1 = 2 * b0 * high - a1 * y + z2;
          z2 = b0 * high - a2 * y;
        }
        data[k] = y;
      }
      state[s] = last;
      state[s + 1] = high;
      state[s + 2] = z1;
      state[s + 3] = z2;
    }
  }
}
