// The output of a blinded study: what the program decided, and of what is delivered only a zero that the device has confirmed.
import type { Output } from '../contract';
import { outputHidden, received, reportUnknown } from '../model';
import { Age } from './age';
import { BlockTag, Confirmed } from './confirmed';
import { formatMa, interlockWord, plainReason } from './format';

interface Props {
  output: Partial<Output>;
  /** Null where the device has not said zero, or nothing may be shown. */
  confirmed: number | null;
  ageS: number | null;
  lastAgeS: number | null;
  reason: string;
}

export function BlindedOutput({ output, confirmed, ageS, lastAgeS, reason }: Props) {
  const state = received.value?.state;
  const stale = reportUnknown.value;
  const hidden = !stale && outputHidden(output, ageS);
  const block = state?.phase === 'on' && !stale ? (state.block ?? '') : '';
  return (
    <section class="card output" aria-labelledby="output-title">
      <header>
        <h2 id="output-title">Output</h2>
        <BlockTag block={block} confirmed={confirmed} blinded />
      </header>
      <p class="big" id="confirmed">
        {hidden ? <span class="what">Not shown: blinded study</span> : <Confirmed ma={confirmed} ageS={lastAgeS} />}
      </p>
      <p class="foot">Nobody is shown here whether current is delivered. STOP works as always.</p>
      <dl class="pairs">
        <div>
          <dt>The program’s level</dt>
          <dd id="program">{stale ? 'Unknown' : typeof output.program_ma === 'number' ? formatMa(output.program_ma) : 'none now'}</dd>
        </div>
        <div>
          <dt>At most, by the program</dt>
          <dd>{stale ? 'Unknown' : formatMa(output.program_limit_ma)}</dd>
        </div>
        <div>
          <dt>Interlock</dt>
          <dd>{stale ? 'Unknown' : interlockWord(output.mode, state?.phase, output.zero_confirmed === true)}</dd>
        </div>
      </dl>
      <p class="foot">
        {reason !== '' && <span id="output-reason">{plainReason(reason)} · </span>}
        {stale ? 'last heard' : 'the interlock answers'} · <Age ageS={ageS} />
      </p>
    </section>
  );
}
