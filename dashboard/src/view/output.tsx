// What is delivered: confirmed by the device first, then what was asked for, and the limits above both.
import { ageNow, OUTPUT_UNKNOWN_S, received, reportAgeS, reportUnknown, UNKNOWN_S } from '../model';
import { Age, Unknown } from './age';
import { BlindedOutput } from './blinded';
import { BlockTag, Confirmed } from './confirmed';
import { formatClock, formatMa, interlockWord, plainReason } from './format';
import { Shape } from './shape';

/** As the interlock judges a readback (interlock/device.py): off by more than 5 %, of less than 1 mA by more than 0.05 mA. */
function differs(commanded: number, confirmed: number): boolean {
  return Math.abs(commanded - confirmed) > Math.max(0.05 * Math.abs(commanded), 0.05);
}

const READBACK: Record<string, string> = { measured: 'measured by the device', acknowledged: 'acknowledged by the device' };

/** Phases in which the interlock's own reason is news; in others it is that of an earlier session. */
const TELLING = ['stopped', 'fallback', 'ramp_down'];

export function OutputPanel() {
  const state = received.value?.state;
  const output = state?.output ?? {};
  const age = ageNow(output.age_s);
  const stale = reportUnknown.value;
  const confirmed = output.confirmed_ma;
  const known = !stale && typeof confirmed === 'number' && age !== null && age <= OUTPUT_UNKNOWN_S;
  const commanded = typeof output.commanded_ma === 'number' ? output.commanded_ma : null;
  const limit = output.limit_ma ?? 0;
  const held = output.mode === 'stopped' || output.mode === 'fallback'; // then nothing is allowed, whatever it was before
  const ceiling = held ? 0 : (output.ceiling_ma ?? 0);
  const top = Math.max(limit, ceiling, commanded ?? 0, known ? confirmed : 0, 0.1);
  const share = (ma: number): string => `${(100 * Math.min(1, Math.max(0, ma / top))).toFixed(2)}%`;
  const mismatch = known && commanded !== null && differs(commanded, confirmed);
  const block = state?.phase === 'on' && !stale ? (state.block ?? '') : '';
  const reason = !stale && (output.mode === 'unknown' || TELLING.includes(state?.phase ?? '')) ? (output.reason ?? '') : '';
  const lastAge = age ?? (reportAgeS.value > UNKNOWN_S ? reportAgeS.value : null);
  if (output.blinded === true) return <BlindedOutput output={output} confirmed={known ? confirmed : null} ageS={age} lastAgeS={lastAge} reason={reason} />;
  return (
    <section class="card output" aria-labelledby="output-title">
      <header>
        <h2 id="output-title">Output</h2>
        <BlockTag block={block} confirmed={known ? confirmed : null} />
      </header>
      <p class="big" id="confirmed">
        <Confirmed ma={known ? confirmed : null} ageS={lastAge} />
      </p>
      <div class="meter" aria-hidden="true">
        <div class={known ? 'meter-fill' : 'meter-fill is-unknown'} style={{ width: known ? share(confirmed) : '100%' }} />
        {commanded !== null && !stale && <div class="meter-commanded" style={{ left: share(commanded) }} />}
        {ceiling > 0 && !stale && <div class="meter-ceiling" style={{ left: share(ceiling) }} />}
      </div>
      <p class="meter-scale" aria-hidden="true">
        <span>0</span>
        <span>signed limit {formatMa(output.limit_ma)}</span>
      </p>
      {mismatch && (
        <p class="mismatch" role="status">
          <Shape mark="alarm" /> Confirmed is not what was commanded
        </p>
      )}
      <dl class="pairs">
        <div>
          <dt>
            <i class="key key-commanded" aria-hidden="true" /> Commanded
          </dt>
          <dd id="commanded">{stale ? <Unknown ageS={lastAge} /> : formatMa(commanded)}</dd>
        </div>
        <div>
          <dt>
            <i class="key key-ceiling" aria-hidden="true" /> Highest allowed now
          </dt>
          <dd id="ceiling">{stale ? 'Unknown' : held ? `${formatMa(0)} while ${output.mode === 'stopped' ? 'stopped' : 'falling'}` : formatMa(output.ceiling_ma)}</dd>
        </div>
        <div>
          <dt>Frequency</dt>
          <dd>{stale || typeof output.frequency_hz !== 'number' ? 'Unknown' : output.frequency_hz === 0 ? 'direct current' : `${output.frequency_hz.toFixed(1)} Hz`}</dd>
        </div>
        <div>
          <dt>Interlock</dt>
          <dd>{stale ? 'Unknown' : interlockWord(output.mode, state?.phase, output.zero_confirmed === true)}</dd>
        </div>
        <div>
          <dt>Delivered this session</dt>
          <dd>{stale || typeof output.delivered_mc !== 'number' ? 'Unknown' : `${output.delivered_mc.toFixed(1)} mC in ${formatClock(output.delivered_s ?? 0)}`}</dd>
        </div>
      </dl>
      <p class="foot">
        {reason !== '' && <span id="output-reason" title={reason}>{plainReason(reason)} · </span>}
        {known ? (READBACK[output.readback ?? ''] ?? 'the device reports nothing') : stale ? 'last heard' : 'the device has not said'} · <Age ageS={age} />
      </p>
    </section>
  );
}
