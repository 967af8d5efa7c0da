// The contact check: the worst electrode by name and place, and the one thing to do about it.
import type { ChannelQuality } from '../contract';
import { Shape } from './shape';
import { contactWord, placeWord, plural, unjudged } from './format';

/** From worst to mildest. */
const REASONS = ['reference_fault', 'flat', 'rail', 'bridged', 'contact', 'disagrees', 'amplitude', 'step', 'drift', 'line_noise'];

const ACTIONS: Record<string, string> = {
  reference_fault: 'All electrodes carry one signal: press the reference (ear clip) onto the skin, and add a little saline there.',
  flat: 'No signal: check its plug, then press the electrode onto the skin for five seconds.',
  rail: 'The signal is cut off: check its plug, add a little saline, and press for five seconds.',
  bridged: 'It carries the same as a neighbor: dry the hair between them, and use less gel or saline.',
  step: 'It jumps: press it onto the skin for five seconds, and see that its cable does not pull.',
  drift: 'It drifts: wait a minute for the skin to settle, then press it onto the skin for five seconds.',
  amplitude: 'Sit still and let the jaw hang loose. If it stays: part the hair, add a little saline, press for five seconds.',
  line_noise: 'Part the hair, add a little saline, press for five seconds. Move chargers and cables away.',
};
const ANY_ACTION = 'Part the hair, add a little saline, press for five seconds.';

function severity(q: ChannelQuality): number {
  const ranks = q.reasons.map((reason) => REASONS.indexOf(reason)).filter((rank) => rank >= 0);
  const rank = ranks.length > 0 ? Math.min(...ranks) : REASONS.length;
  return rank + (q.contact ?? 1) / 2 - Math.min(1, (q.line_ratio ?? 0) / 100) / 2 - (q.worst === true ? REASONS.length + 1 : 0);
}

export function ContactGuide({ quality }: { quality: ChannelQuality[] }) {
  if (quality.length === 0 || quality.every((q) => unjudged(q.good, q.reasons))) {
    return (
      <p class="guide">
        <Shape mark="warn" /> Listening to the electrodes: the first reading takes a few seconds.
      </p>
    );
  }
  const bad = quality.filter((q) => !q.good).sort((a, b) => severity(a) - severity(b));
  const worst = bad[0];
  if (worst === undefined) {
    return (
      <p class="guide">
        <Shape mark="good" /> All {quality.length} electrodes sit well.
      </p>
    );
  }
  const reason = REASONS.find((r) => worst.reasons.includes(r)) ?? '';
  const place = placeWord(worst.channel);
  return (
    <div class="guide is-bad">
      <p class="guide-who">
        <Shape mark="bad" /> <strong>{worst.channel}</strong>
        {place !== '' && <span>{place}</span>}
        {contactWord(worst) !== '' && <span>{contactWord(worst)}</span>}
      </p>
      <p>{ACTIONS[reason] ?? ANY_ACTION}</p>
      <p class="foot">
        {bad.length > 1 && <>Then: {bad.slice(1, 5).map((q) => q.channel).join(', ')}{bad.length > 5 && ' …'}. </>}
        {plural(quality.length - bad.length, 'electrode', 'electrodes')} of {quality.length} {quality.length - bad.length === 1 ? 'sits' : 'sit'} well.
      </p>
    </div>
  );
}
