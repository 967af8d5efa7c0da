// What crosses the wire between web process and page (docs/contracts.md, sections 6 to 8), as types and one decoder.

/** One number of the line. `age_s` is its age when the state was written. */
export interface Biomarker {
  name: string;
  channel: string;
  value: number | null;
  unit: string;
  grade: string;
  reason: string;
  age_s: number;
}

export interface StreamState {
  status: string;
  age_s: number | null;
  rate_hz: number | null;
  lost_samples: number;
  segment: number;
  message: string;
  channels: string[];
}

export interface ChannelQuality {
  channel: string;
  good: boolean;
  reasons: string[];
  line_ratio: number | null;
  /** Contact score without impedance, 0 (none) to 1. */
  contact?: number | null;
  /** The one electrode to see to first; at most one of a headset. */
  worst?: boolean;
  /** Where the board measures it. */
  impedance_kohm?: number | null;
}

export interface Target {
  biomarker: string;
  channel: string;
  unit: string;
  value: number | null;
  /** What the controller last decided on: the median of `estimate_n` windows. */
  estimate?: number | null;
  estimate_n?: number;
  /** How far single windows scatter about it; null while that is not known. */
  estimate_spread?: number | null;
  low: number;
  high: number;
  grade: string;
  age_s: number;
  history: [number, number | null][];
}

export interface Output {
  commanded_ma: number | null;
  confirmed_ma: number | null;
  granted_ma: number | null;
  ceiling_ma: number | null;
  limit_ma: number | null;
  frequency_hz: number | null;
  mode: string;
  reason: string;
  age_s: number | null;
  latched: boolean;
  zero_confirmed: boolean;
  readback: string;
  delivered_mc: number | null;
  delivered_s: number | null;
  /** A blinded study: of what is delivered only a confirmed zero is told, beside what the program decided. */
  blinded?: boolean;
  program_ma?: number | null;
  program_limit_ma?: number | null;
}

export interface LimitApplied {
  field: string;
  value: number;
  unit: string;
  set_by: string;
}

export interface Decision {
  /** The numbers are the program's, whether or not they are delivered. */
  blinded?: boolean;
  sentence: string;
  age_s: number | null;
  proposed_ma: number | null;
  granted_ma: number | null;
  limits: LimitApplied[];
  hold: boolean;
}

export interface Recording {
  status: string;
  message: string;
  seconds: number;
  session: string;
}

export interface Alarm {
  id: string;
  priority: string;
  text: string;
  advice: string;
  age_s: number;
}

/** Something that the answers forbid: "block" until answered otherwise, "hold" until a clinician releases it, "pause", "stop". */
export interface FormFinding {
  level: string;
  form: string;
  item: string;
  text: string;
}

/** What is asked now; empty where nothing can be delivered. */
export interface Forms {
  due: string[];
  open: string[];
  findings: FormFinding[];
  /** Unix s from which a next session may begin; 0 = now, null = not in this course. */
  next_session_s: number | null;
  wait_s: number | null;
  virtual: boolean;
}

/** The live state of one seat, as the daemon publishes it (objects may be empty before the first sample). */
export interface LoopState {
  seat: string;
  label: string;
  phase: string;
  block: string;
  phase_reason: string;
  phase_left_s: number | null;
  demo: boolean;
  stream: Partial<StreamState>;
  quality: ChannelQuality[];
  biomarkers: Biomarker[];
  target: Partial<Target>;
  output: Partial<Output>;
  decision: Partial<Decision>;
  recording: Partial<Recording>;
  alarms: Alarm[];
  forms: Partial<Forms>;
}

export interface Seat {
  seat: string;
  index: number;
  label: string;
  channels: string[];
  kinds: string[];
  sample_rate_hz: number;
}

export interface StopResult {
  id?: string;
  seat: string;
  confirmed: boolean | null;
  output_ma: number | null;
  after_ms: number | null;
  advice?: string | null;
}

export interface CommandResult {
  id: string;
  ok: boolean;
  error: string | null;
}

/** The 32-byte header before the samples of one chunk. */
export interface ChunkHeader {
  seatIndex: number;
  channels: number;
  sequence: number;
  samples: number;
  firstSample: number;
  t0: number;
}

export const HEADER_BYTES = 32;

/** Reads the header `<4sBBHIIQd`; null when these are not the bytes of one whole version-1 chunk. */
export function readHeader(bytes: ArrayBuffer): ChunkHeader | null {
  if (bytes.byteLength < HEADER_BYTES) return null;
  const view = new DataView(bytes);
  if (view.getUint32(0, false) !== 0x45454743 || view.getUint8(4) !== 1) return null;
  const channels = view.getUint16(6, true);
  const samples = view.getUint32(12, true);
  if (channels === 0 || bytes.byteLength !== HEADER_BYTES + 4 * channels * samples) return null;
  return {
    seatIndex: view.getUint8(5),
    channels,
    sequence: view.getUint32(8, true),
    samples,
    firstSample: Number(view.getBigUint64(16, true)),
    t0: view.getFloat64(24, true),
  };
}
