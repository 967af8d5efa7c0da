// What the page and the trace renderer (in its worker, or on the main thread) say to each other.

export interface Look {
  good: string;
  bad: string;
  stale: string;
  gap: string;
}

export type ToRenderer =
  | { type: 'canvas'; canvas: OffscreenCanvas }
  | { type: 'stream'; channels: number; rateHz: number; eeg: boolean[] }
  | { type: 'size'; width: number; height: number; ratio: number }
  | { type: 'look'; look: Look }
  | { type: 'view'; windowS: number; gainUv: number | null; lowPass: boolean; calm: boolean }
  | { type: 'quality'; good: boolean[]; stale: boolean }
  | { type: 'chunk'; bytes: ArrayBuffer };

/** Sent twice a second while the page is shown. */
export interface RendererReport {
  type: 'report';
  /** µV between two neighboring rows. */
  gainUv: number;
  /** Frames on which something was drawn since the start. */
  frames: number;
  /** Frames drawn over the last second. */
  fps: number;
  /** 95th percentile of the time between two frames over the last seconds, ms. */
  frameP95Ms: number;
  /** Milliseconds from the first chunk to the first line drawn; null before. */
  firstTraceMs: number | null;
}
