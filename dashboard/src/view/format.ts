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
  if (size >= 100_000 || (size > 0 && size < 0.0005)) return value.toExponential(1);
  if (size >= 100) return value.toFixed(0);
  if (size >= 10) return value.toFixed(1);
  if (size >= 1) return value.toFixed(2);
  return value.toFixed(3);
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

const NAMES: Record<string, string> = {
  band_power: 'Band power',
  relative_power: 'Share of power',
  'iaf.peak': 'Alpha peak frequency',
  'iaf.cog': 'Alpha center frequency',
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
};

/** A quality reason in plain words. */
export function reasonWord(reason: string): string {
  return REASONS[reason] ?? reason.replaceAll('_', ' ');
}

interface PhaseWords {
  title: string;
  plain: string;
}

const PHASES: Record<string, PhaseWords> = {
  off: { title: 'No session', plain: 'Nothing is delivered. Start a session when the headset sits well.' },
  screen: { title: 'Questions first', plain: 'A few questions before anything starts.' },
  contact: { title: 'Checking contact', plain: 'Making sure that every electrode touches the skin.' },
  baseline: { title: 'Listening', plain: 'Measuring the resting state. Nothing is delivered.' },
  ramp_up: { title: 'Rising gently', plain: 'The current rises slowly to its first level.' },
  on: { title: 'Session running', plain: 'Listening and stimulating in turns.' },
  ramp_down: { title: 'Falling gently', plain: 'The current falls slowly to zero.' },
  post: { title: 'Session over', plain: 'Nothing is delivered. A few minutes of listening follow.' },
  fallback: { title: 'Falling to zero', plain: 'Something was not certain, so the current goes down.' },
  stopped: { title: 'Stopped', plain: 'Held at zero until a person here re-arms.' },
};

export function phaseWords(phase: string): PhaseWords {
  return PHASES[phase] ?? { title: capital(phase.replaceAll('_', ' ')), plain: '' };
}

export function blockWord(block: string): string {
  if (block === 'stimulate') return 'Stimulating';
  if (block === 'sense') return 'Sensing (output off)';
  return '';
}

export function plural(n: number, one: string, many: string): string {
  return `${n} ${n === 1 ? one : many}`;
}

/** "amplitude_ma" -> "amplitude": the unit follows the number. */
export function fieldWord(field: string): string {
  return field.replace(/_(ma|ua|mc|uc|hz|s|ms|w)$/, '').replaceAll('_', ' ');
}
