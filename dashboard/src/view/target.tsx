// The steering biomarker against its target band, and below it what was delivered: the last 120 s on one time axis.
import { signal } from '@preact/signals';
import { ageNow, BIOMARKER_UNKNOWN_S, nowMs, outputHidden, OUTPUT_UNKNOWN_S, received, selected, signalUnknown, states } from '../model';
import { Age, Unknown } from './age';
import { biomarkerName, formatBound, formatUnit, formatValue, withUnit } from './format';
import { Shape } from './shape';
import { useSize } from './width';

const SPAN_S = 120;
const TOP = { height: 112, pad: 8 };
const LOW = { height: 40, gap: 10 };
const LEFT = 40;
const RIGHT = 8;
const AXIS = 20;

interface Delivered {
  atMs: number;
  ma: number | null;
}

/** Confirmed output as this page saw it, once a second and seat; null where it was unknown; the program's level where a study is blinded. */
const delivered = signal<Record<string, Delivered[]>>({});

states.subscribe((all) => {
  const next = { ...delivered.peek() };
  for (const [seat, { state, atMs }] of Object.entries(all)) {
    const list = next[seat] ?? [];
    const last = list[list.length - 1];
    if (last !== undefined && atMs - last.atMs < 900) continue;
    const known = typeof state.output.confirmed_ma === 'number' && (state.output.age_s ?? Infinity) <= OUTPUT_UNKNOWN_S;
    const shown = known ? state.output.confirmed_ma! : outputHidden(state.output, state.output.age_s ?? null) ? (state.output.program_ma ?? null) : null;
    next[seat] = [...list.filter((p) => atMs - p.atMs < (SPAN_S + 2) * 1000), { atMs, ma: shown }];
  }
  delivered.value = next;
});

/** About `count` round steps from low to high. */
function ticks(low: number, high: number, count: number): number[] {
  const raw = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= raw) ?? raw;
  const list: number[] = [];
  for (let v = Math.ceil(low / step) * step; v <= high + 1e-9; v += step) list.push(v);
  return list;
}

/** An SVG path through points, broken where a value is missing. */
function path(points: [number, number | null][]): string {
  let d = '';
  let pen = false;
  for (const [x, y] of points) {
    if (y === null) {
      pen = false;
      continue;
    }
    d += `${pen ? 'L' : 'M'}${x.toFixed(1)} ${y.toFixed(1)}`;
    if (!pen) d += 'h0.01'; // a lone point is still a dot
    pen = true;
  }
  return d;
}

export function TargetPanel() {
  const [ref, { width }] = useSize<HTMLDivElement>();
  const state = received.value?.state;
  const target = state?.target ?? {};
  const age = ageNow(target.age_s);
  const has = target.biomarker !== undefined && typeof target.low === 'number' && typeof target.high === 'number';
  const old = signalUnknown.value || age === null || age > BIOMARKER_UNKNOWN_S;
  const value = has && !old && target.value !== null && target.value !== undefined ? target.value : null;
  const place = value === null || !has ? null : value < target.low! ? 'below' : value > target.high! ? 'above' : 'within';
  return (
    <section class="card target" aria-labelledby="target-title">
      <header>
        <h2 id="target-title">
          {has ? biomarkerName(target.biomarker!) : 'Target'} {has && target.channel !== 'n/a' && <small>{target.channel}</small>}
        </h2>
        {has && (
          <span class="tag">
            target {formatBound(target.low!)} to {formatBound(target.high!)} {formatUnit(target.unit ?? '')}
          </span>
        )}
      </header>
      {!has ? (
        <p class="plain">No controller has named its target yet.</p>
      ) : (
        <p class="now">
          {value === null ? (
            old ? (
              <Unknown ageS={age} />
            ) : (
              <>
                <b>n/a</b> <span class="what">{state?.block !== 'stimulate' ? 'no valid window' : state.output.blinded === true ? 'not judged while the program is above zero' : 'not judged while stimulating'}</span> <Age ageS={age} />
              </>
            )
          ) : (
            <>
              <b>{withUnit(value, target.unit ?? '')}</b>{' '}
              <span class={`place place-${place}`}>
                <Shape mark={place === 'within' ? 'good' : 'warn'} /> {place === 'within' ? 'within target' : `${place} target`}
              </span>{' '}
              <Age ageS={age} />
            </>
          )}
        </p>
      )}
      {has && !old && typeof target.estimate === 'number' && (
        <p class="foot" id="estimate">
          Decided on {withUnit(target.estimate, target.unit ?? '')}
          {typeof target.estimate_spread === 'number' ? ` ± ${formatValue(target.estimate_spread)}` : ' (its spread is not known yet)'}, the median of {target.estimate_n === 1 ? 'one window' : `${target.estimate_n} windows`}.
        </p>
      )}
      <div class="chart" ref={ref}>
        {has && width > 0 && <Chart width={width} />}
      </div>
    </section>
  );
}

function Chart({ width }: { width: number }) {
  const got = received.value;
  const seat = selected.value;
  if (got === null || seat === null) return null;
  const { target, output } = got.state;
  const since = Math.max(0, (nowMs.value - got.atMs) / 1000);
  const low = target.low!;
  const high = target.high!;
  const history = target.history ?? [];
  const values = history.map(([, v]) => v).filter((v): v is number => v !== null);
  const bottom = Math.min(low, ...values);
  const top = Math.max(high, ...values);
  const margin = 0.12 * (top - bottom || 1);
  const yLow = bottom >= 0 ? Math.max(0, bottom - margin) : bottom - margin;
  const yHigh = top + margin;
  const innerWidth = width - LEFT - RIGHT;
  const x = (ageS: number): number => LEFT + innerWidth * (1 - Math.min(SPAN_S, Math.max(0, ageS)) / SPAN_S);
  const y = (v: number): number => TOP.pad + (TOP.height - TOP.pad) * (1 - (v - yLow) / (yHigh - yLow));
  const points = [...history]
    .sort((a, b) => b[0] - a[0])
    .filter(([a]) => a + since <= SPAN_S)
    .map(([a, v]): [number, number | null] => [x(a + since), v === null ? null : y(v)]);

  const limitMa = (output.blinded === true ? output.program_limit_ma : output.limit_ma) ?? 0;
  const maTop = Math.max(limitMa, output.ceiling_ma ?? 0, 0.1) * 1.1;
  const y0 = TOP.height + LOW.gap;
  const yMa = (ma: number): number => y0 + LOW.height * (1 - Math.min(1, ma / maTop));
  const steps: [number, number | null][] = [];
  let before: number | null = null;
  for (const p of delivered.value[seat.seat] ?? []) {
    const px = x((nowMs.value - p.atMs) / 1000);
    if (p.ma !== null && before !== null) steps.push([px, yMa(before)]);
    steps.push([px, p.ma === null ? null : yMa(p.ma)]);
    before = p.ma;
  }
  const full = TOP.height + LOW.gap + LOW.height + AXIS;
  const marks = width < 420 ? [120, 60, 0] : [120, 90, 60, 30, 0];
  const unit = formatUnit(target.unit ?? '');
  return (
    <svg width={width} height={full} role="img" aria-label={`Last two minutes: ${biomarkerName(target.biomarker!)} against its target ${low} to ${high} ${unit}, and the ${output.blinded === true ? 'level of the program (blinded study)' : 'output delivered'}`}>
      <rect class="chart-band" x={LEFT} width={innerWidth} y={y(high)} height={Math.max(1, y(low) - y(high))} />
      {ticks(yLow, yHigh, 4).map((v) => (
        <g key={v}>
          <line class="chart-grid" x1={LEFT} x2={LEFT + innerWidth} y1={y(v)} y2={y(v)} />
          <text class="chart-text" x={LEFT - 6} y={y(v) + 4} text-anchor="end">
            {formatBound(v)}
          </text>
        </g>
      ))}
      <line class="chart-edge" x1={LEFT} x2={LEFT + innerWidth} y1={y(high)} y2={y(high)} />
      <line class="chart-edge" x1={LEFT} x2={LEFT + innerWidth} y1={y(low)} y2={y(low)} />
      <path class="chart-line" d={path(points)} />
      {limitMa > 0 && <line class="chart-limit" x1={LEFT} x2={LEFT + innerWidth} y1={yMa(limitMa)} y2={yMa(limitMa)} />}
      <line class="chart-grid" x1={LEFT} x2={LEFT + innerWidth} y1={yMa(0)} y2={yMa(0)} />
      <path class="chart-output" d={path(steps)} />
      <text class="chart-text" x={LEFT - 6} y={yMa(limitMa) + 4} text-anchor="end">
        {limitMa > 0 ? Number(limitMa.toFixed(2)) : ''}
      </text>
      <text class="chart-text" x={LEFT - 6} y={y0 + LOW.height / 2 + 6} text-anchor="end">
        mA
      </text>
      <text class="chart-text" x={LEFT - 6} y={yMa(0) + 4} text-anchor="end">
        0
      </text>
      {marks.map((s) => (
        <text key={s} class="chart-text" x={x(s)} y={full - 4} text-anchor={s === 0 ? 'end' : s === SPAN_S ? 'start' : 'middle'}>
          {s === 0 ? 'now' : `−${s} s`}
        </text>
      ))}
    </svg>
  );
}
