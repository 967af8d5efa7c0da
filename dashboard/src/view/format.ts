// Numbers, units and the loop's own words, as people read them.

export function formatAge(ageS: number | null): string {
  if (ageS === null || !Number.isFinite(ageS)) return 'never';
  if (ageS < 9.95) return `${ageS.toFixed(1)} s`;
  if (ageS < 120) return `${Math.round(ageS)} s`;
  if (ageS < 7200) return `${Math.round(ageS / 60)} min`;
  return `${Math.round(ageS / 3600)} h`;
}

/** Three significant digits, without exponents for what a headset can measure. */
export function formatValue(value: number): string {
  const size = Math.abs(value);
  const places = size >= 100 ? 0 : size >= 10 ? 1 : size >= 1 ? 2 : 3;
  return minus(size >= 100_000 || (size > 0 && size < 0.0005) ? value.toExponential(1) : value.toFixed(places));
}

/** A bound of a band, as short as it was signed. */
export function formatBound(value: number): string {
  return minus(String(Number(value.toPrecision(3))));
}

function minus(text: string): string {
  return text.replace('-', '−');
}

const UNITS: Record<string, string> = { uV2: 'µV²', uV: 'µV', '1': '', ms: 'ms', Hz: 'Hz', rad: 'rad' };

export function formatUnit(unit: string): string {
  return UNITS[unit] ?? unit;
}

export function withUnit(value: number, unit: string): string {
  const u = formatUnit(unit);
  return u === '' ? formatValue(value) : `${formatValue(value)} ${u}`;
}

export function formatMa(value: number | null | undefined): string {
  return value === null || value === undefined ? 'Unknown' : `${value.toFixed(2)} mA`;
}

export function formatClock(seconds: number): string {
  const s = Math.max(0, Math.round(seconds));
  return `${Math.floor(s / 60)}:${String(s % 60).padStart(2, '0')}`;
}

/** A moment in this person's own time zone: "18:40", with the day if it is not today. */
export function formatMoment(unixS: number, nowUnixMs: number = Date.now()): string {
  const when = new Date(unixS * 1000);
  const time = when.toLocaleTimeString([], { hour: '2-digit', minute: '2-digit', hour12: false });
  if (when.toDateString() === new Date(nowUnixMs).toDateString()) return time;
  return `${time} on ${when.toLocaleDateString([], { weekday: 'long', day: 'numeric', month: 'long' })}`;
}

const NAMES: Record<string, string> = {
  band_power: 'Band power',
  relative_power: 'Share of power',
  'iaf.peak': 'Alpha peak frequency',
  'iaf.cog': 'Alpha center frequency',
  'iaf.maximum': 'Alpha maximum',
  faa: 'Frontal alpha asymmetry',
};

/** "band_power.alpha" -> "Alpha power"; an unknown name is shown as it is, words apart. */
export function biomarkerName(name: string): string {
  const known = NAMES[name];
  if (known !== undefined) return known;
  const [module = name, part] = name.split('.', 2);
  if (module === 'band_power' && part !== undefined) return `${capital(part)} power`;
  if (module === 'relative_power' && part !== undefined) return `${capital(part)} share`;
  return capital(name.replaceAll('_', ' ').replaceAll('.', ', '));
}

export function capital(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

const REASONS: Record<string, string> = {
  flat: 'flat',
  rail: 'at the rail',
  amplitude: 'too large',
  line_noise: 'mains noise',
  gap: 'gap',
  settling: 'filter settling',
  stimulation: 'stimulation',
};

/** Reasons that say nothing about an electrode: its signal is not judged for the moment. */
const UNJUDGED = ['settling', 'stimulation', 'gap', 'unknown'];

/** True when a channel is called not good for such reasons only. */
export function unjudged(good: boolean, reasons: string[]): boolean {
  return !good && reasons.length > 0 && reasons.every((reason) => UNJUDGED.includes(reason));
}

/** How well an electrode touches the skin, as far as it is known: "contact 34 %, 62 kΩ". */
export function contactWord(q: { contact?: number | null; impedance_kohm?: number | null }): string {
  const words: string[] = [];
  if (typeof q.contact === 'number') words.push(`contact ${Math.round(100 * q.contact)} %`);
  if (typeof q.impedance_kohm === 'number') words.push(`${formatValue(q.impedance_kohm)} kΩ`);
  return words.join(', ');
}

/** A quality reason in plain words. */
export function reasonWord(reason: string): string {
  return REASONS[reason] ?? reason.replaceAll('_', ' ');
}

interface PhaseWords {
  title: string;
  plain: string;
}

const PHASES: Record<string, PhaseWords> = {
  off: { title: 'No session', plain: 'Start a session when the headset sits well.' },
  screen: { title: 'Questions first', plain: 'A few questions before anything starts.' },
  contact: { title: 'Checking contact', plain: 'Making sure that every electrode touches the skin.' },
  baseline: { title: 'Listening', plain: 'Measuring the resting state.' },
  ramp_up: { title: 'Rising gently', plain: 'The current rises slowly to its first level.' },
  on: { title: 'Session running', plain: 'Listening and stimulating in turns.' },
  ramp_down: { title: 'Falling gently', plain: 'The current falls slowly to zero.' },
  post: { title: 'Session over', plain: 'A few minutes of listening follow.' },
  fallback: { title: 'Falling to zero', plain: 'Something was not certain, so the output is taken to zero.' },
  stopped: { title: 'Stopped', plain: 'Told to stop; the device has not said zero yet.' },
};

/** What may be said only when the device has said zero. */
const AT_ZERO: Record<string, PhaseWords> = {
  off: { title: 'No session', plain: 'Nothing is delivered. Start a session when the headset sits well.' },
  baseline: { title: 'Listening', plain: 'Measuring the resting state. Nothing is delivered.' },
  post: { title: 'Session over', plain: 'Nothing is delivered. A few minutes of listening follow.' },
  fallback: { title: 'Paused at zero', plain: 'Something was not certain. Check the headset, then re-arm.' },
  stopped: { title: 'Stopped', plain: 'Held at zero until a person here re-arms.' },
};

/** What may be said in a blinded study while the program runs: nothing of current. */
const BLINDED: Record<string, PhaseWords> = {
  ramp_up: { title: 'Rising gently', plain: 'The program rises slowly to its first level. This study is blinded: what is delivered is not shown.' },
  on: { title: 'Session running', plain: 'Listening and the program’s level in turns. This study is blinded: what is delivered is not shown.' },
  ramp_down: { title: 'Falling gently', plain: 'The program falls slowly to zero. This study is blinded: what is delivered is not shown.' },
};

export function phaseWords(phase: string, atZero: boolean, blinded = false): PhaseWords {
  return (blinded ? BLINDED[phase] : undefined) ?? (atZero ? AT_ZERO[phase] : undefined) ?? PHASES[phase] ?? { title: capital(phase.replaceAll('_', ' ')), plain: '' };
}

const PLAIN: [RegExp, string][] = [
  [/^(The interlock stopped: )?lease over: [^.]*/, 'The service answered too late, so the output went to zero by itself'],
  [/^(The interlock stopped: )?STOP: STOP on the page[^.]*/, 'STOP was pressed on a page'],
  [/^Stopped by STOP on the page[^.]*/, 'STOP was pressed on a page'],
  [/^(The interlock stopped: )?STOP: STOP from the daemon[^.]*/, 'The service stopped the output'],
  [/^(Held at [0-9.]+ mA): stimulation\./, '$1: the last stimulation has not left the window yet.'],
  [/^(Held at [0-9.]+ mA): the program was above zero\./, '$1: the program’s level has not left the window yet.'],
  [/^(Held at [0-9.]+ mA): settling\./, '$1: the filters are settling after the stimulation.'],
  [/^(Ended|Re-armed|Screening answered) by (page|demo) [\w-]+/, '$1 on a page'],
];

/** The session's or the interlock's sentence without the words that only an engineer knows; what is not known stays as it is. */
export function plainReason(text: string): string {
  for (const [pattern, words] of PLAIN) if (pattern.test(text)) return text.replace(pattern, words);
  return text;
}

/** What to do about an alarm; where the cause is known here, in words that can be followed. */
export function plainAdvice(text: string, advice: string): string {
  return /lease over/.test(text) ? 'This computer was too busy or stood still: close other programs, then re-arm.' : advice;
}

const AREAS: [RegExp, string][] = [
  [/^FP/, 'forehead'],
  [/^(AF|F\d|FZ)/, 'front of the head'],
  [/^(FT|T|TP)/, 'above the ear'],
  [/^(FC|C)/, 'top of the head'],
  [/^(CP|P|PO)/, 'back of the crown'],
  [/^O/, 'back of the head'],
];

/** "O1" -> "back of the head, left": the 10-20 system's even numbers are right, odd ones left; "" for other names. */
export function placeWord(label: string): string {
  const match = /^([A-Z]+)(\d{1,2}|Z)$/i.exec(label);
  const area = match === null ? undefined : AREAS.find(([pattern]) => pattern.test(label.toUpperCase()))?.[1];
  if (match === null || area === undefined) return '';
  const number = match[2]!.toUpperCase();
  return number === 'Z' ? `${area}, middle` : `${area}, ${Number(number) % 2 === 1 ? 'left' : 'right'}`;
}

/** The block in words; that the output is off is said only when the device has confirmed it (null = it has not said). */
export function blockWord(block: string, confirmedMa: number | null, blinded = false): string {
  if (block === 'stimulate') return blinded ? 'Program at its level' : 'Stimulating';
  if (block !== 'sense') return '';
  if (confirmedMa === null) return 'Sensing';
  return Math.abs(confirmedMa) < 0.005 ? 'Sensing (output off)' : 'Going to zero, then sensing';
}

/** What the interlock does, in words. */
export function interlockWord(mode: string | undefined, phase: string | undefined, atZero: boolean): string {
  if (mode === 'stopped') return !atZero ? 'stopped, zero not confirmed' : phase === 'stopped' ? 'stopped, locked' : 'holds zero';
  if (mode === 'fallback') return 'falling to zero';
  return mode === undefined || mode === 'unknown' ? 'Unknown' : mode;
}

export function plural(n: number, one: string, many: string): string {
  return `${n} ${n === 1 ? one : many}`;
}

const WHO: Record<string, string> = {
  authority: 'the ceiling signed for the controller',
  prescription: 'the prescription',
  profile: 'the fixed safety limits',
  device: 'the stimulator',
};

/** Who set a limit, in plain words. */
export function limitSetter(setBy: string): string {
  return WHO[setBy] ?? `the ${setBy}`;
}

/** "amplitude_ma" -> "amplitude": the unit follows the number. */
export function fieldWord(field: string): string {
  return field.replace(/_(ma|ua|mc|uc|hz|s|ms|w)$/, '').replaceAll('_', ' ');
}
