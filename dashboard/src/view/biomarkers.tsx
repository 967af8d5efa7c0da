// Band powers as bars, and every biomarker as a number with its grade, its reason and its age.
import { signal } from '@preact/signals';
import type { Biomarker } from '../contract';
import { ageNow, BIOMARKER_UNKNOWN_S, received, reportAgeS, selected, signalUnknown } from '../model';
import { Unknown } from './age';
import { biomarkerName, capital, formatAge, formatUnit, formatValue, plural, reasonWord, withUnit } from './format';
import type { Mark } from './shape';
import { Shape } from './shape';

const ALL = 'n/a';
const RANGES: Record<string, string> = {
  delta: '1–4 Hz',
  theta: '4–8 Hz',
  alpha: '8–13 Hz',
  beta: '13–30 Hz',
  gamma: '30–45 Hz',
};
/** The bars' logarithmic scale, µV². */
const BAR_LOW = 0.1;
const BAR_HIGH = 1000;

/** "" = mean of the good channels. */
const channel = signal('');
const everyNumber = signal(false);

/** A number that may be shown as now: reported, not invalid, not too old. */
function usable(b: Biomarker): boolean {
  const age = ageNow(b.age_s);
  return !signalUnknown.value && b.value !== null && age !== null && age <= BIOMARKER_UNKNOWN_S;
}

export function BandPanel() {
  const state = received.value?.state;
  const powers = (state?.biomarkers ?? []).filter((b) => b.name.startsWith('band_power.'));
  const shares = (state?.biomarkers ?? []).filter((b) => b.name.startsWith('relative_power.'));
  const bands = [...new Set(powers.map((b) => b.name.slice('band_power.'.length)))];
  const channels = [...new Set(powers.map((b) => b.channel))].filter((c) => c !== ALL);
  const wanted = channels.includes(channel.value) ? channel.value : '';
  return (
    <section class="card bands" aria-labelledby="bands-title">
      <header>
        <h2 id="bands-title">Band power</h2>
        <label class="select">
          <span class="spoken">Channel of the band powers</span>
          <select
            value={wanted}
            onChange={(event) => {
              channel.value = event.currentTarget.value;
            }}
          >
            <option value="">Mean of good channels</option>
            {channels.map((c) => (
              <option key={c} value={c}>
                {c}
              </option>
            ))}
          </select>
        </label>
      </header>
      {bands.length === 0 && <p class="plain">No band power yet: {selected.value?.channels.length === 0 ? 'waiting for the headset' : 'the first window is still filling'}.</p>}
      <ul class="bars">
        {bands.map((band) => (
          <Bar
            key={band}
            band={band}
            powers={powers.filter((b) => b.name === `band_power.${band}` && (wanted === '' || b.channel === wanted))}
            shares={shares.filter((b) => b.name === `relative_power.${band}` && (wanted === '' || b.channel === wanted))}
          />
        ))}
      </ul>
      {bands.length > 0 && (
        <p class="bar-scale" aria-hidden="true">
          <span>0.1</span>
          <span>1</span>
          <span>10</span>
          <span>100</span>
          <span>1000 µV²</span>
        </p>
      )}
    </section>
  );
}

function mean(values: number[]): number {
  return values.reduce((a, b) => a + b, 0) / values.length;
}

function Bar({ band, powers, shares }: { band: string; powers: Biomarker[]; shares: Biomarker[] }) {
  const good = powers.filter((b) => usable(b) && b.grade === 'good');
  const shown = good.length > 0 ? good : powers.filter(usable);
  const grade = good.length > 0 ? 'good' : shown.length > 0 ? 'suspect' : 'n/a';
  const value = shown.length > 0 ? mean(shown.map((b) => b.value!)) : null;
  const share = shares.filter((b) => usable(b) && b.grade === grade);
  const percent = share.length > 0 ? Math.round(100 * mean(share.map((b) => b.value!))) : null;
  const wide = value === null ? 0 : (Math.log10(Math.max(value, BAR_LOW) / BAR_LOW) / Math.log10(BAR_HIGH / BAR_LOW)) * 100;
  const ages = powers.map((b) => ageNow(b.age_s) ?? Infinity);
  const age = ages.length > 0 ? Math.max(...(shown.length > 0 ? shown : powers).map((b) => ageNow(b.age_s) ?? Infinity)) : null;
  const left = powers.length - shown.length;
  const reason = powers.find((b) => b.reason !== '')?.reason ?? '';
  return (
    <li class={`bar bar-${grade === 'n/a' ? 'none' : grade}`}>
      <span class="bar-name">
        {capital(band)} <small>{RANGES[band] ?? ''}</small>
      </span>
      <span class="bar-track" aria-hidden="true">
        <span class="bar-fill" style={{ width: `${Math.min(100, wide).toFixed(1)}%` }} />
      </span>
      <span class="bar-value">
        {value === null ? (
          signalUnknown.value ? (
            <Unknown ageS={age} />
          ) : (
            <>
              n/a {reason !== '' && <small>{reasonWord(reason)}</small>}
            </>
          )
        ) : (
          <>
            <b>{formatValue(value)}</b> {formatUnit(powers[0]?.unit ?? 'uV2')}
            <small class="bar-share">{percent !== null && `${percent} %`}</small>
            <small>{formatAge(age)}</small>
          </>
        )}
      </span>
      {value !== null && (grade === 'suspect' || (left > 0 && powers.length > 1)) && (
        <span class="bar-foot">
          {grade === 'suspect' && (
            <>
              <Shape mark="warn" /> suspect{reason !== '' && `: ${reasonWord(reason)}`}{' '}
            </>
          )}
          {left > 0 && powers.length > 1 && `${plural(left, 'channel', 'channels')} left out`}
        </span>
      )}
    </li>
  );
}

const GRADES: Record<string, { mark: Mark; word: string }> = {
  good: { mark: 'good', word: 'good' },
  suspect: { mark: 'warn', word: 'suspect' },
  'n/a': { mark: 'off', word: 'n/a' },
};

export function BiomarkerPanel() {
  const all = received.value?.state.biomarkers ?? [];
  const powers = (b: Biomarker): boolean => b.name.startsWith('band_power.') || b.name.startsWith('relative_power.');
  const target = received.value?.state.target;
  const first = all.filter((b) => !powers(b) && b.channel === ALL);
  const perChannel = all.filter((b) => !powers(b) && b.channel !== ALL);
  const pairs = perChannel.filter((b) => b.channel.includes('-'));
  const wanted = perChannel.filter((b) => b.channel === (channel.value === '' ? target?.channel : channel.value));
  const list = [...new Set([...first, ...pairs, ...wanted])];
  const rows = everyNumber.value ? all : list.length > 0 ? list : perChannel.slice(0, 6);
  return (
    <section class="card biomarkers" aria-labelledby="biomarkers-title">
      <header>
        <h2 id="biomarkers-title">Biomarkers</h2>
        {all.length > 0 && (
          <button
            type="button"
            class="link"
            aria-pressed={everyNumber.value}
            onClick={() => {
              everyNumber.value = !everyNumber.value;
            }}
          >
            {everyNumber.value ? 'Show fewer' : `Show all ${all.length}`}
          </button>
        )}
      </header>
      {rows.length === 0 ? (
        <p class="plain">None yet.</p>
      ) : (
        <table>
          <thead>
            <tr>
              <th scope="col">Biomarker</th>
              <th scope="col">Value</th>
              <th scope="col">Grade</th>
              <th scope="col">Age</th>
            </tr>
          </thead>
          <tbody>
            {rows.map((b) => (
              <Row key={`${b.name}@${b.channel}`} b={b} />
            ))}
          </tbody>
        </table>
      )}
    </section>
  );
}

function Row({ b }: { b: Biomarker }) {
  const age = ageNow(b.age_s);
  const old = signalUnknown.value || age === null || age > BIOMARKER_UNKNOWN_S;
  const grade = GRADES[b.grade] ?? GRADES['n/a']!;
  return (
    <tr class={old ? 'is-old' : ''}>
      <th scope="row">
        {biomarkerName(b.name)} {b.channel !== ALL && <small>{b.channel}</small>}
      </th>
      <td class="value">{old ? 'Unknown' : b.value === null ? 'n/a' : withUnit(b.value, b.unit)}</td>
      <td class="grade">
        {old ? (
          <span>
            <Shape mark="off" /> unknown
          </span>
        ) : (
          <span class={`grade-${grade.mark}`}>
            <Shape mark={grade.mark} /> {grade.word}
            {b.reason !== '' && b.grade !== 'good' && <small>{reasonWord(b.reason)}</small>}
          </span>
        )}
      </td>
      <td class="age">{formatAge(old ? Math.max(age ?? Infinity, reportAgeS.value) : age)}</td>
    </tr>
  );
}
